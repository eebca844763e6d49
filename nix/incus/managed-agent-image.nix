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
  home = "/var/lib/${cfg.user}";

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
  imports = [ ../module.nix ];

  options.services.pika-cloud-managed-agent = {
    command = mkOption {
      type = types.listOf types.str;
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

    user = mkOption {
      type = types.strMatching "[a-z][a-z0-9-]*";
      default = "agent";
      example = "openclaw";
      description = "User and group of the agent. The home directory is in /var/lib.";
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.curl ]";
      description = "Packages on the PATH of the agent, its probe and its publish command.";
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

    stopSeconds = mkOption {
      type = types.ints.positive;
      default = 10;
      example = 60;
      description = "Seconds that the agent may take to stop after SIGTERM. Then it is killed.";
    };
  };

  config = {
    assertions = [
      {
        assertion = cfg.command != [ ];
        message = "services.pika-cloud-managed-agent.command is empty; expected the agent and its arguments";
      }
      {
        assertion = cfg.user != lifecycle.owner;
        message = "services.pika-cloud-managed-agent.user is \"${cfg.user}\", which owns ${lifecycle.stateDir}, so the agent could forge the result; choose another user";
      }
    ];

    services.pika-cloud-lifecycle.enable = true;

    users.users.${cfg.user} = {
      isSystemUser = true;
      group = cfg.user;
      inherit home;
      createHome = true;
    };
    users.groups.${cfg.user} = { };

    systemd.services.pika-cloud-managed-agent = {
      description = "Managed agent";
      documentation = [ "man:pika-cloud-lifecycle(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      path = [
        lifecycle.package
        pkgs.bash
      ] ++ cfg.path;
      environment = {
        PIKA_LIFECYCLE_DIR = lifecycle.stateDir;
        INGEST_FLAGS = toString lifecycle.ingestFlags;
        AGENT_PROBE = cfg.probe;
        AGENT_PUBLISH = cfg.publish;
        AGENT_PROBES = toString cfg.probes;
        AGENT_PROBE_SECONDS = toString cfg.probeSeconds;
        AGENT_STOP_SECONDS = toString cfg.stopSeconds;
        HOME = home;
        USER = cfg.user;
        LOGNAME = cfg.user;
      };
      serviceConfig = lifecycle.streamConfig // {
        # The unit becomes active when the guest is ready. The script limits the time for that.
        Type = if lib.elem lifecycle.notify [ "auto" "systemd" ] then "notify" else "simple";
        NotifyAccess = "all"; # ingest, a child of the script, sends the notifications
        TimeoutStartSec = "infinity";
        ExecStart = utils.escapeSystemdExecArgs (
          [ "${pkgs.bash}/bin/bash" "${./agent-boot.sh}" ] ++ asUser ++ cfg.command
        );
        WorkingDirectory = home;
        Restart = "on-failure";
        RestartSec = "1s";
        # systemd sends SIGTERM only to the script. If the agent received it too, it could
        # end first, and the script would report that it completed by itself.
        KillMode = "mixed";
        # 30 s of the rest are for ingest, which retries the result if the disk is full.
        TimeoutStopSec = cfg.stopSeconds + 45;
        OOMPolicy = "continue"; # the agent handles children that are killed
      };
    };
  };
}
