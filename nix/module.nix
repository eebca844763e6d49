# services.pika-cloud-lifecycle: the state directory, the program, and optionally
# a FIFO to which programs in the guest print directives.
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
  name = types.strMatching "[A-Za-z_][A-Za-z0-9._-]*";
  # These characters mean the same in a command line, a setting, a tmpfiles rule and a word of ingestFlags.
  plain = path: builtins.match "(/[A-Za-z0-9._+@:-]+)+" path != null && builtins.match ".*/[.][.]?(/.*)?" path == null;
  limits = {
    LogRateLimitIntervalSec = cfg.rateLimit.interval;
    LogRateLimitBurst = cfg.rateLimit.burst;
  };

  # A shell script between single quotes in a unit file. NixOS has its programs in
  # /run/current-system/sw/bin. Another user may own the directory: mv and
  # systemd-tmpfiles do not follow a symbolic link there.
  prepareFIFO =
    "PATH=$$PATH:/run/current-system/sw/bin; f=${cfg.fifo.path}; "
    + "if [ -L $$f ] || { [ -e $$f ] && [ ! -p $$f ]; }; then mv -T --backup=numbered $$f $$f.unread && "
    + ''echo "<4>pika-cloud-lifecycle: $$f: was not a FIFO, so its lines were not read; find them in $$f.unread" >&2; fi; ''
    + ''echo "p $$f $$(systemctl show --value -p SocketMode %n) root root -" | systemd-tmpfiles --create -'';

  inside = lib.hasPrefix "${cfg.stateDir}/" cfg.fifo.path;
  artifact = builtins.match "[.]?(status[.]json|events[.]jsonl|result[.]json|rejected[.]jsonl|writer[.]lock).*" (lib.removePrefix "${cfg.stateDir}/" cfg.fifo.path) != null;
in
{
  options.services.pika-cloud-lifecycle = {
    enable = lib.mkEnableOption "pika-cloud-lifecycle, which records the state of this guest in files for its host";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      example = lib.literalExpression "pkgs.pika-cloud-lifecycle";
      description = "The package of the program.";
    };

    stateDir = mkOption {
      type = types.str;
      default = "/run/pika-cloud";
      example = "/var/lib/pika-cloud";
      description = ''
        Directory of status.json, events.jsonl and result.json. The host reads the
        default directory.
      '';
    };

    owner = mkOption {
      type = name;
      default = "root";
      example = "lifecycle";
      description = ''
        User that owns the state directory and runs the unit of the FIFO. This user
        can delete and forge the files in the directory.
      '';
    };

    group = mkOption {
      type = name;
      default = "root";
      example = "lifecycle";
      description = "Group of the state directory.";
    };

    mode = mkOption {
      type = octal;
      default = "0755";
      example = "0750";
      description = "Mode of the state directory. The files in it have mode 0644.";
    };

    journal = mkOption {
      type = types.enum [ "never" "auto" "always" ];
      default = "auto";
      example = "always";
      description = "Whether streams mirror events, results and rejected lines to the journal.";
    };

    rateLimit = {
      interval = mkOption {
        type = types.strMatching "[1-9][0-9]{0,8}(us|ms|s|min|h)?";
        default = "30s";
        example = "10s";
        description = ''
          Interval in which journald counts the entries of a unit that runs a stream.
          0 does not disable the limit in journald: raise the burst instead.
        '';
      };
      burst = mkOption {
        type = types.ints.between 1 4294967295; # systemd ignores a greater number
        default = 1000000;
        example = 50000;
        description = ''
          Number of entries that such a unit may send in one interval. journald drops
          further entries, and logs that it did. Its default of 10000 is too low for a
          busy stream.
        '';
      };
    };

    notify = mkOption {
      type = types.enum [ "never" "auto" "systemd" "incus" ];
      default = "auto";
      example = "incus";
      description = ''
        What to notify when the guest is ready and when a run ends. systemd shows the
        state as the status of the unit; Incus sends an event. "auto" notifies each
        of them that is present.
      '';
    };

    fifo = {
      enable = lib.mkEnableOption "a FIFO that accepts directives";

      path = mkOption {
        type = types.str;
        default = "${cfg.stateDir}/lifecycle.fifo";
        defaultText = lib.literalExpression ''"''${stateDir}/lifecycle.fifo"'';
        example = "/run/pika-cloud/report";
        description = ''
          Path of the FIFO, inside the state directory. Writers must keep each line
          within 4096 bytes, so that lines of several writers do not mix.
        '';
      };

      mode = mkOption {
        type = octal;
        default = "0600";
        example = "0620";
        description = "Mode of the FIFO. Every user who may write to it can set the result of the run.";
      };

      group = mkOption {
        type = name;
        default = cfg.group;
        defaultText = lib.literalExpression "group";
        example = "wheel";
        description = "Group of the FIFO. Its owner is the owner of the state directory.";
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
      description = "Flags that a unit which starts ingest itself must pass to it. They follow from the options above.";
    };

    streamConfig = mkOption {
      type = types.attrsOf types.anything;
      readOnly = true;
      default = limits // {
        # Adds the result if the stream was killed too. Its input is empty.
        ExecStopPost = "${cfg.package}/bin/pika-cloud-lifecycle ingest ${toString cfg.ingestFlags} --require-result";
        StandardInput = "null";
        IgnoreSIGPIPE = false; # otherwise the programs of the unit inherit SIGPIPE ignored
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
        Settings that the serviceConfig of such a unit must include: a rate limit that
        is high enough for the mirror, and a command that adds the result if the whole
        unit is killed. They follow from the options above.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = plain cfg.stateDir;
        message = "services.pika-cloud-lifecycle.stateDir is \"${cfg.stateDir}\"; expected an absolute path of letters, digits and ._+@:-, without \".\", \"..\", repeated or trailing slashes";
      }
      {
        assertion = config.users.users ? ${cfg.owner};
        message = "services.pika-cloud-lifecycle.owner is \"${cfg.owner}\", which users.users does not define; define it, or choose another user";
      }
      {
        assertion = config.users.groups ? ${cfg.group};
        message = "services.pika-cloud-lifecycle.group is \"${cfg.group}\", which users.groups does not define; define it, or choose another group";
      }
      {
        assertion = !cfg.fifo.enable || plain cfg.fifo.path && inside && !artifact;
        message = "services.pika-cloud-lifecycle.fifo.path is \"${cfg.fifo.path}\"; expected a path inside ${cfg.stateDir}, of letters, digits and ._+@:-, that does not start with the name of an artifact";
      }
      {
        # as PrivateTmp= and ProtectHome= below
        assertion = !cfg.fifo.enable || builtins.match "/(tmp|var/tmp|home|root|run/user)(/.*)?" cfg.stateDir == null;
        message = "services.pika-cloud-lifecycle.stateDir is \"${cfg.stateDir}\", which the unit of the FIFO cannot see; choose a directory outside /tmp, /var/tmp, /home, /root and /run/user";
      }
      {
        assertion = !cfg.fifo.enable || config.users.groups ? ${cfg.fifo.group};
        message = "services.pika-cloud-lifecycle.fifo.group is \"${cfg.fifo.group}\", which users.groups does not define; define it, or choose another group";
      }
    ];

    environment.systemPackages = [ cfg.package ];

    systemd.tmpfiles.rules = [
      "d ${cfg.stateDir} ${cfg.mode} ${cfg.owner} ${cfg.group} -"
    ]
    # Until the socket is up, a writer waits for it instead of creating a regular file.
    # The "!" keeps later calls of systemd-tmpfiles from changing the mode of the FIFO.
    ++ lib.optional cfg.fifo.enable "p! ${cfg.fifo.path} 0600 root root -";

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
          # The FIFO stays, so a writer never creates a regular file, and the running
          # ingest reads the same FIFO after a restart.
          RemoveOnStop = false;
          # systemd uses an existing FIFO only if it belongs to root and has SocketMode.
          ExecStartPre = "-/bin/sh -c '${prepareFIFO}'";
          # A socket cannot start while the unit of Service= is active. So it must not be
          # the unit of ingest.
          Service = "pika-cloud-lifecycle-start.service";
        };
      };
    };

    systemd.services = lib.mkIf cfg.fifo.enable {
      pika-cloud-lifecycle-start = {
        description = "Start ingest, because a directive has arrived in the FIFO";
        documentation = [ "man:pika-cloud-lifecycle(1)" ];
        requires = [ "pika-cloud-lifecycle.service" ];
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "/bin/sh -c :"; # a service must have a command
        };
      };

      # systemd keeps the FIFO open, so lines wait in it while this unit is down.
      pika-cloud-lifecycle = {
        description = "Lifecycle artifacts of this guest";
        documentation = [ "man:pika-cloud-lifecycle(1)" ];
        # Order units that print to the FIFO after this one, so that they stop first.
        after = [ "systemd-tmpfiles-setup.service" ];
        restartIfChanged = false; # stopping this unit ends the run
        serviceConfig = limits // {
          # A FIFO has no end of file: ingest reads the remaining lines in the grace period.
          ExecStart = "${cfg.package}/bin/pika-cloud-lifecycle ingest ${toString cfg.ingestFlags} --require-result --grace=1s";
          Sockets = "pika-cloud-lifecycle.socket";
          NotifyAccess = "main";
          User = cfg.owner;
          Group = cfg.group;
          UMask = "0022";
          SuccessExitStatus = 3; # a rejected line does not fail the unit

          ReadWritePaths = cfg.stateDir;
          BindPaths = "-/dev/incus -/dev/lxd"; # otherwise PrivateDevices hides the socket of Incus
          # ProtectProc, ProtectKernelTunables and ProtectControlGroups mount a new /proc,
          # without the file that a container manager has mounted over boot_id, so the
          # unit would record the host's boot ID. systemd-nspawn has deleted that file,
          # so only its directory can be bound.
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
          ProtectProc = "invisible"; # ProcSubset=pid has no boot_id, and the bind would fail
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
