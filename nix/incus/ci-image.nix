# The image of a guest that runs CI jobs. root owns /run/pika-cloud. A job owns
# only logs and artifacts in it. Each is a separate file system, so a job cannot
# fill /run.
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
        File that describes the job, as JSON with schema_version (2), command,
        timeout_secs and run_as_root. The job runs at boot. If the host writes the file
        later, it must start pika-cloud-ci.service.
      '';
    };

    user = mkOption {
      type = types.strMatching "[a-z][a-z0-9-]*";
      default = "ci";
      example = "runner";
      description = "User and group of a job with run_as_root set to false. The home directory is in /var/lib.";
    };

    uid = mkOption {
      type = types.ints.positive;
      default = 900;
      example = 1000;
      description = "User ID and group ID of that user.";
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.git pkgs.gnumake ]";
      description = "Packages on the PATH of the job.";
    };

    killAfterSeconds = mkOption {
      type = types.ints.positive;
      default = 10;
      example = 60;
      description = "Seconds that a job may take to stop after SIGTERM. Then it is killed.";
    };

    logsSize = mkOption {
      type = size;
      default = "64M";
      example = "10%";
      description = "Size of the file system for logs/guest.log.";
    };

    artifactsSize = mkOption {
      type = size;
      default = "256M";
      example = "2G";
      description = "Size of the file system for the artifacts of the job.";
    };

    processes = mkOption {
      type = types.ints.positive;
      default = 8192;
      example = 30000;
      description = "Maximum number of processes and threads of the user of the job.";
    };
  };

  config = {
    assertions = [
      {
        assertion = cfg.user != lifecycle.owner;
        message = "services.pika-cloud-ci.user is \"${cfg.user}\", which owns ${lifecycle.stateDir}, so a job could forge the result; choose another user";
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
        StartLimitIntervalSec = 0; # the host decides when to start it again
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
        # Otherwise a job could send notifications to systemd as this unit, and have it killed.
        NotifyAccess = "none";
        # Removes what the previous job left, which may fill the file systems.
        ExecStartPre = "-${pkgs.findutils}/bin/find ${lifecycle.stateDir}/logs ${lifecycle.stateDir}/artifacts -mindepth 1 -delete";
        ExecStart = utils.escapeSystemdExecArgs [
          "${pkgs.python3}/bin/python3"
          "${./ci-job.py}"
          "--user=${cfg.user}"
          "--kill-after=${toString cfg.killAfterSeconds}"
          cfg.request
        ];
        # The output of the job is in logs/guest.log. In the journal it would use up the
        # rate limit of the unit, which the mirror needs.
        StandardOutput = "null";
        # systemd sends SIGTERM only to the runner. If the job received it too, it could
        # end first, and the runner would report that it failed by itself.
        KillMode = "mixed";
        # 30 s of the rest are for ingest, which retries the result if the disk is full.
        TimeoutStopSec = cfg.killAfterSeconds + 45;
        # A job that forks or allocates without limit must not stop the stream. It
        # reaches LimitNPROC first, which does not apply to root.
        LimitNPROC = cfg.processes;
        TasksMax = 2 * cfg.processes;
        OOMPolicy = "continue";
      };
    };
  };
}
