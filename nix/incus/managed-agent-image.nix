# The image of a guest that runs one managed agent. The agent runs as a user of
# its own, whom /run/pika-cloud does not belong to.
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

  # In the place of the agent, and with its pid.
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
      description = "The agent and its arguments, found on path.";
    };

    probe = mkOption {
      type = types.str;
      example = "curl -fsS http://127.0.0.1:18789/health";
      description = "Command line for bash that succeeds once the agent is healthy. It runs as root.";
    };

    publish = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "openclaw publish-keypackage";
      description = "Command line for bash that publishes the key package, before the guest is ready. It runs as root.";
    };

    user = mkOption {
      type = types.strMatching "[a-z][a-z0-9-]*";
      default = "agent";
      example = "openclaw";
      description = "User, and group, that the agent runs as. Its home is in /var/lib.";
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.curl ]";
      description = "Packages of the agent, its probe and what publishes it.";
    };

    probes = mkOption {
      type = types.ints.positive;
      default = 60;
      example = 300;
      description = "How often to probe, a second apart, before the guest has failed.";
    };

    probeSeconds = mkOption {
      type = types.ints.positive;
      default = 5;
      example = 30;
      description = "How long one probe, or publishing, may take.";
    };

    stopSeconds = mkOption {
      type = types.ints.positive;
      default = 10;
      example = 60;
      description = "How long the agent may take to stop before it is killed.";
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
        message = "services.pika-cloud-managed-agent.user is \"${cfg.user}\", who owns ${lifecycle.stateDir}: the agent could forge what the host is told";
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
        # Active is what the guest calls ready. The script bounds how long that takes.
        Type = if lib.elem lifecycle.notify [ "auto" "systemd" ] then "notify" else "simple";
        NotifyAccess = "all"; # it is ingest that notifies, a child of the script
        TimeoutStartSec = "infinity";
        ExecStart = utils.escapeSystemdExecArgs (
          [ "${pkgs.bash}/bin/bash" "${./agent-boot.sh}" ] ++ asUser ++ cfg.command
        );
        WorkingDirectory = home;
        Restart = "on-failure";
        RestartSec = "1s";
        # The script alone is asked to stop: an agent that ends before the script knows
        # why would have completed by itself.
        KillMode = "mixed";
        TimeoutStopSec = cfg.stopSeconds + 20;
        OOMPolicy = "continue"; # a child that is killed is the agent's to judge
      };
    };
  };
}
