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
  size = types.strMatching "[1-9][0-9]{0,5}[KMG]|([1-9][0-9]?|100)%";
  literal = builtins.replaceStrings [ "%" ] [ "%%" ]; # % starts a specifier in a unit

  own = name: limit: {
    description = "The job's ${name}";
    where = "${lifecycle.stateDir}/${name}";
    what = "tmpfs";
    type = "tmpfs";
    options = "size=${literal limit},nr_inodes=16k,mode=0755,uid=${toString cfg.uid},gid=${toString cfg.uid},nosuid,nodev";
  };
in
{
  imports = [ (import ./image.nix { unit = "pika-cloud-ci"; user = "ci"; what = "a job"; stop = "killAfterSeconds"; }) ];

  options.services.pika-cloud-ci = {
    request = mkOption {
      # systemd removes blanks at the end of a line, and joins a line that ends with \ to the next.
      type = types.addCheck types.path (path: builtins.match "[^[:cntrl:]]*[^[:space:]\\]" (toString path) != null)
        // { description = "absolute path without control characters, and without a blank or backslash at its end"; };
      default = "/var/lib/pika-cloud/request.json";
      example = "/mnt/job/request.json";
      description = ''
        File that describes the job, as JSON with schema_version (2), command,
        timeout_secs and run_as_root; if that is false, user runs the job. The job runs at
        boot. If the host writes the file later, it must start pika-cloud-ci.service.
      '';
      apply = path: "${path}"; # a file of the configuration is copied to the store
    };

    uid = mkOption {
      type = types.ints.between 1 60000; # as in login.defs(5)
      default = 900;
      example = 1000;
      description = "User ID and group ID of user.";
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
      type = types.ints.between 1 4194304; # as in pid_max (proc(5))
      default = 8192;
      example = 30000;
      description = "Maximum number of processes and threads of the user of the job.";
    };
  };

  config = lib.mkIf lifecycle.enable {
    users.users.${cfg.user} = { inherit (cfg) uid; };
    users.groups.${cfg.user}.gid = cfg.uid;

    systemd.mounts = [
      (own "logs" cfg.logsSize)
      (own "artifacts" cfg.artifactsSize)
    ];

    systemd.services.pika-cloud-ci = {
      description = "CI job";
      unitConfig = {
        ConditionPathExists = literal cfg.request;
        StartLimitIntervalSec = 0; # the host decides when to start it again
        RequiresMountsFor = [
          "${lifecycle.stateDir}/logs"
          "${lifecycle.stateDir}/artifacts"
        ];
      };
      restartIfChanged = false; # it would end the job
      serviceConfig = {
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
        # A job that forks or allocates without limit must not stop the stream. It
        # reaches LimitNPROC first, which does not apply to root.
        LimitNPROC = cfg.processes;
        TasksMax = 2 * cfg.processes;
      };
    };
  };
}
