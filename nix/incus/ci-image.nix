# The image of a guest that runs one CI job. /run/pika-cloud is root's; the
# job's are only logs and artifacts in it, which are file systems of their own,
# so that a job can fill its own only.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  cfg = config.services.pika-cloud-ci;
  lifecycle = config.services.pika-cloud-lifecycle;
  inherit (lib) mkOption types;
  size = types.strMatching "[1-9][0-9]*[KMG%]";

  own = name: limit: {
    description = "The job's ${name}";
    where = "${lifecycle.stateDir}/${name}";
    what = "tmpfs";
    type = "tmpfs";
    options = "size=${limit},nr_inodes=16k,mode=0755,uid=${toString cfg.uid},gid=${toString cfg.uid},nosuid,nodev";
  };
in
{
  imports = [ ../module.nix ];

  options.services.pika-cloud-ci = {
    request = mkOption {
      type = types.path;
      default = "/var/lib/pika-cloud/request.json";
      example = "/mnt/job/request.json";
      description = ''
        What to run, as JSON: schema_version (2), command, timeout_secs and run_as_root.
        It runs at boot; where the request comes later, the host starts
        pika-cloud-ci.service.
      '';
    };

    user = mkOption {
      type = types.strMatching "[a-z][a-z0-9-]*";
      default = "ci";
      example = "runner";
      description = "User, and group, that a job runs as whose run_as_root is false. Its home is in /var/lib.";
    };

    uid = mkOption {
      type = types.ints.positive;
      default = 900;
      example = 1000;
      description = "Number of that user, and of its group.";
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.git pkgs.gnumake ]";
      description = "Packages that a job finds on its PATH.";
    };

    killAfterSeconds = mkOption {
      type = types.ints.positive;
      default = 10;
      example = 60;
      description = "How long a job may take to stop before it is killed.";
    };

    logsSize = mkOption {
      type = size;
      default = "64M";
      example = "10%";
      description = "How much logs/guest.log may hold.";
    };

    artifactsSize = mkOption {
      type = size;
      default = "256M";
      example = "2G";
      description = "How much a job may leave in artifacts.";
    };

    processes = mkOption {
      type = types.ints.positive;
      default = 8192;
      example = 30000;
      description = "How many processes and threads the job's user may have.";
    };
  };

  config = {
    assertions = [
      {
        assertion = cfg.user != lifecycle.owner;
        message = "services.pika-cloud-ci.user is \"${cfg.user}\", who owns ${lifecycle.stateDir}: a job could forge what the host is told";
      }
    ];

    services.pika-cloud-lifecycle.enable = true;

    users.users.${cfg.user} = {
      inherit (cfg) uid;
      isSystemUser = true;
      group = cfg.user;
      home = "/var/lib/${cfg.user}";
      createHome = true;
    };
    users.groups.${cfg.user}.gid = cfg.uid;

    systemd.mounts = [
      (own "logs" cfg.logsSize)
      (own "artifacts" cfg.artifactsSize)
    ];

    systemd.services.pika-cloud-ci = {
      description = "CI job";
      documentation = [ "man:pika-cloud-lifecycle(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      unitConfig = {
        ConditionPathExists = cfg.request;
        StartLimitIntervalSec = 0; # it is the host that starts it again
        RequiresMountsFor = [
          "${lifecycle.stateDir}/logs"
          "${lifecycle.stateDir}/artifacts"
        ];
      };
      restartIfChanged = false; # it would end the job
      path = [
        lifecycle.package
        pkgs.bash
      ] ++ cfg.path;
      environment = {
        PIKA_LIFECYCLE_DIR = lifecycle.stateDir;
        INGEST_FLAGS = toString lifecycle.ingestFlags;
      };
      serviceConfig = lifecycle.streamConfig // {
        Type = "oneshot";
        # Else a job could speak to systemd as this unit, and have it killed.
        NotifyAccess = "none";
        # What a job before left is not this one's, and may have filled its room.
        ExecStartPre = "-${pkgs.findutils}/bin/find ${lifecycle.stateDir}/logs ${lifecycle.stateDir}/artifacts -mindepth 1 -delete";
        ExecStart = utils.escapeSystemdExecArgs [
          "${pkgs.python3}/bin/python3"
          "${./ci-job.py}"
          "--user=${cfg.user}"
          "--kill-after=${toString cfg.killAfterSeconds}"
          cfg.request
        ];
        # What the job says is in logs/guest.log. In the journal it would use up the
        # limit of the unit, and so the mirror's.
        StandardOutput = "null";
        # The runner alone is asked to stop: a job that ends before it knows why would
        # have failed by itself.
        KillMode = "mixed";
        TimeoutStopSec = cfg.killAfterSeconds + 20;
        # A job that forks or allocates without end must not take the stream along:
        # it meets its own limit first, which root is free of.
        LimitNPROC = cfg.processes;
        TasksMax = 2 * cfg.processes;
        OOMPolicy = "continue";
      };
    };
  };
}
