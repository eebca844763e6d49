# The image of a guest that runs one managed agent. The agent runs as a separate
# user, which does not own /run/pika-cloud.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  cfg = config.services.pika-cloud-managed-agent;
  lifecycle = config.services.pika-cloud-lifecycle;
  inherit (lib) mkOption types;
  literal = builtins.replaceStrings [ "%" ] [ "%%" ]; # % starts a specifier in a unit

  # setpriv replaces itself by the agent, which keeps its process ID.
  asUser = [
    "${pkgs.util-linux}/bin/setpriv"
    "--reuid=${cfg.user}"
    "--regid=${cfg.user}"
    "--init-groups"
    "--inh-caps=-all"
    "--no-new-privs"
    "--"
  ];
in
{
  imports = [ (import ./image.nix { unit = "pika-cloud-managed-agent"; user = "agent"; what = "the agent"; stop = "stopSeconds"; }) ];

  options.services.pika-cloud-managed-agent = {
    command = mkOption {
      type = types.nonEmptyListOf types.str;
      example = [ "openclaw" "gateway" ];
      description = "The agent and its arguments. The program is looked up in path.";
    };

    probe = mkOption {
      type = types.str;
      example = "curl -fsS http://127.0.0.1:18789/health";
      description = "Command line for bash that exits with 0 once the agent is healthy. It runs as root.";
    };

    publish = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "openclaw publish-keypackage";
      description = "Command line for bash that publishes the key package. It runs as root, before the guest is ready.";
    };

    probes = mkOption {
      type = types.ints.positive;
      default = 60;
      example = 300;
      description = "Number of probes, one second apart, after which the guest has failed.";
    };

    probeSeconds = mkOption {
      type = types.ints.positive;
      default = 5;
      example = 30;
      description = "Seconds that one probe, or publishing, may take.";
    };
  };

  config = lib.mkIf lifecycle.enable {
    systemd.services.pika-cloud-managed-agent = {
      description = "Managed agent";
      environment = {
        AGENT_PROBE = literal cfg.probe;
        AGENT_PUBLISH = literal (toString cfg.publish);
        AGENT_PROBES = toString cfg.probes;
        AGENT_PROBE_SECONDS = toString cfg.probeSeconds;
        AGENT_STOP_SECONDS = toString cfg.stopSeconds;
        HOME = "/var/lib/${cfg.user}";
        USER = cfg.user;
        LOGNAME = cfg.user;
      };
      serviceConfig = {
        # The unit becomes active when the guest is ready. The script limits the time for that.
        Type = if lib.elem lifecycle.notify [ "auto" "systemd" ] then "notify" else "simple";
        NotifyAccess = "all"; # ingest, a child of the script, sends the notifications
        TimeoutStartSec = "infinity";
        ExecStart = utils.escapeSystemdExecArgs (
          [ "${pkgs.bash}/bin/bash" "${./agent-boot.sh}" ] ++ asUser ++ cfg.command
        );
        WorkingDirectory = "/var/lib/${cfg.user}";
        Restart = "on-failure";
        RestartSec = "1s";
      };
    };
  };
}
