# services.pika-cloud-lifecycle: the state directory, the program, and, where it
# is asked for, a FIFO that anything in the guest may print directives to.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.pika-cloud-lifecycle;
  inherit (lib) mkOption types;

  octal = types.strMatching "0?[0-7]{3}";
  normalised = path: builtins.match "(/[^/[:space:]%]+)+" path != null && builtins.match ".*/[.][.]?(/.*)?" path == null;
  limits = {
    LogRateLimitIntervalSec = cfg.rateLimit.interval;
    LogRateLimitBurst = cfg.rateLimit.burst;
  };
  inside = lib.hasPrefix "${cfg.stateDir}/" cfg.fifo.path;
in
{
  options.services.pika-cloud-lifecycle = {
    enable = lib.mkEnableOption "the artifacts in which this guest tells its host how it is doing";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      example = lib.literalExpression "pkgs.pika-cloud-lifecycle";
      description = "The program, as the flake's package or the overlay has it.";
    };

    stateDir = mkOption {
      type = types.str;
      default = "/run/pika-cloud";
      example = "/var/lib/pika-cloud";
      description = ''
        Directory of status.json, events.jsonl and result.json. The host looks for
        them in the default.
      '';
    };

    owner = mkOption {
      type = types.str;
      default = "root";
      example = "lifecycle";
      description = ''
        User that the state directory belongs to, and that the unit of the FIFO runs
        as. The owner of a directory can delete and forge what stands in it.
      '';
    };

    group = mkOption {
      type = types.str;
      default = "root";
      example = "lifecycle";
      description = "Group that the state directory belongs to.";
    };

    mode = mkOption {
      type = octal;
      default = "0755";
      example = "0750";
      description = "Mode of the state directory. The artifacts in it have 0644.";
    };

    journal = mkOption {
      type = types.enum [ "never" "auto" "always" ];
      default = "auto";
      example = "always";
      description = "Whether streams mirror events, results and refused lines to the journal.";
    };

    rateLimit = {
      interval = mkOption {
        type = types.strMatching "[1-9][0-9]*(us|ms|s|min|h)?";
        default = "30s";
        example = "10s";
        description = ''
          Time over which journald counts the entries of a unit that runs a stream.
          journald takes 0 for its own default, not for no limit: raise the burst.
        '';
      };
      burst = mkOption {
        type = types.ints.positive;
        default = 1000000;
        example = 50000;
        description = ''
          Entries that such a unit may send in that time. What is beyond, journald
          drops and says; with its own default of 10000 a busy stream is not whole in
          the journal.
        '';
      };
    };

    notify = mkOption {
      type = types.enum [ "never" "auto" "systemd" "incus" ];
      default = "auto";
      example = "incus";
      description = ''
        Who hears of ready and of the end of a run, beside the reader of the artifacts:
        systemd, which then shows the state as the status of the unit; Incus, which
        then sends an event; or whoever of them is there.
      '';
    };

    fifo = {
      enable = lib.mkEnableOption "a FIFO that directives can be printed to";

      path = mkOption {
        type = types.str;
        default = "${cfg.stateDir}/lifecycle.fifo";
        defaultText = lib.literalExpression ''"''${stateDir}/lifecycle.fifo"'';
        example = "/run/pika-cloud/tell";
        description = ''
          Where it is, in the state directory. Its writers keep a line within 4096 bytes.
        '';
      };

      mode = mkOption {
        type = octal;
        default = "0600";
        example = "0620";
        description = "Mode of the FIFO. Who may write to it may give the verdict.";
      };

      group = mkOption {
        type = types.str;
        default = cfg.group;
        defaultText = lib.literalExpression "group";
        example = "wheel";
        description = "Group of the FIFO. Its owner is that of the state directory.";
      };
    };

    ingestFlags = mkOption {
      type = types.listOf types.str;
      readOnly = true;
      default = [
        "--state-dir=${cfg.stateDir}"
        "--journal=${cfg.journal}"
        "--notify=${cfg.notify}"
      ];
      defaultText = lib.literalExpression ''[ "--state-dir=…" "--journal=…" "--notify=…" ]'';
      example = [ "--state-dir=/run/pika-cloud" "--journal=auto" "--notify=auto" ];
      description = "What a unit with a stream of its own gives to ingest, from these options.";
    };

    streamConfig = mkOption {
      type = types.attrsOf types.anything;
      readOnly = true;
      default = limits // {
        # The verdict, should the stream have been killed too. Its input is empty.
        ExecStopPost = "${cfg.package}/bin/pika-cloud-lifecycle ingest ${toString cfg.ingestFlags} --require-result";
        StandardInput = "null";
        IgnoreSIGPIPE = false; # what the unit runs would inherit it ignored
      };
      defaultText = lib.literalExpression "{ LogRateLimitIntervalSec = …; LogRateLimitBurst = …; ExecStopPost = …; … }";
      example = {
        LogRateLimitIntervalSec = "30s";
        LogRateLimitBurst = 1000000;
        ExecStopPost = "pika-cloud-lifecycle ingest --require-result";
        StandardInput = "null";
        IgnoreSIGPIPE = false;
      };
      description = ''
        What the serviceConfig of such a unit needs, from these options: limits that
        the mirror does not meet, and a verdict should all of the unit be killed.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = normalised cfg.stateDir;
        message = "services.pika-cloud-lifecycle.stateDir is \"${cfg.stateDir}\"; expected an absolute path without . and .., doubled or trailing slashes, blanks and %";
      }
      {
        assertion = config.users.users ? ${cfg.owner};
        message = "services.pika-cloud-lifecycle.owner is \"${cfg.owner}\", which users.users does not have";
      }
      {
        assertion = config.users.groups ? ${cfg.group};
        message = "services.pika-cloud-lifecycle.group is \"${cfg.group}\", which users.groups does not have";
      }
      {
        assertion = !cfg.fifo.enable || normalised cfg.fifo.path && inside;
        message = "services.pika-cloud-lifecycle.fifo.path is \"${cfg.fifo.path}\"; expected a path inside ${cfg.stateDir}, the only directory that its unit may write to";
      }
      {
        assertion = !cfg.fifo.enable || config.users.groups ? ${cfg.fifo.group};
        message = "services.pika-cloud-lifecycle.fifo.group is \"${cfg.fifo.group}\", which users.groups does not have";
      }
    ];

    environment.systemPackages = [ cfg.package ];

    systemd.tmpfiles.rules = [ "d ${cfg.stateDir} ${cfg.mode} ${cfg.owner} ${cfg.group} -" ];

    systemd.sockets = lib.mkIf cfg.fifo.enable {
      pika-cloud-lifecycle = {
        description = "FIFO for lifecycle directives";
        documentation = [ "man:pika-cloud-lifecycle(1)" ];
        wantedBy = [ "sockets.target" ];
        socketConfig = {
          ListenFIFO = cfg.fifo.path;
          SocketUser = cfg.owner;
          SocketGroup = cfg.fifo.group;
          SocketMode = cfg.fifo.mode;
          RemoveOnStop = true;
        };
      };
    };

    systemd.services = lib.mkIf cfg.fifo.enable {
      # systemd holds the FIFO, so what is printed while this unit is down waits.
      pika-cloud-lifecycle = {
        description = "Lifecycle artifacts of this guest";
        documentation = [ "man:pika-cloud-lifecycle(1)" ];
        # Units that print to the FIFO are ordered behind this one, and so end first.
        after = [ "systemd-tmpfiles-setup.service" ];
        restartIfChanged = false; # a stop of this unit is the end of the run
        serviceConfig = limits // {
          # A FIFO has no end: what its writers left is read within the grace.
          ExecStart = "${cfg.package}/bin/pika-cloud-lifecycle ingest ${toString cfg.ingestFlags} --require-result --grace=1s";
          NotifyAccess = "main";
          User = cfg.owner;
          Group = cfg.group;
          UMask = "0022";
          SuccessExitStatus = 3; # refused lines are their writers' fault

          ReadWritePaths = cfg.stateDir;
          BindPaths = "-/dev/incus -/dev/lxd"; # else PrivateDevices hides Incus's socket
          # ProtectProc, ProtectKernelTunables and ProtectControlGroups mount a new /proc,
          # without the file that a container manager has mounted over boot_id: the unit
          # would record the host's boot ID. systemd-nspawn has unlinked that file, so
          # only its directory can be bound.
          BindReadOnlyPaths = "-/proc/sys/kernel/random";
          CapabilityBoundingSet = "";
          DevicePolicy = "closed";
          IPAddressDeny = "any";
          KeyringMode = "private";
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          NoNewPrivileges = true;
          PrivateDevices = true;
          PrivateNetwork = true;
          PrivateTmp = true;
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHome = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          ProtectProc = "invisible"; # not ProcSubset=pid, which has no boot_id: the bind would fail
          ProtectSystem = "strict";
          RemoveIPC = true;
          RestrictAddressFamilies = "AF_UNIX";
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          SystemCallArchitectures = "native";
          SystemCallErrorNumber = "EPERM";
          SystemCallFilter = [ "@system-service" "~@privileged @resources" ];
        };
      };
    };
  };
}
