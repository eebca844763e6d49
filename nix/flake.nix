{
  description = "Records the state of a guest for its host";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      each = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];

      # A build from a commit includes its hash in the version.
      package =
        pkgs:
        pkgs.callPackage ./package.nix (
          lib.optionalAttrs (self ? rev) {
            version = "${lib.fileContents ../VERSION}+${self.shortRev}";
            revision = self.rev;
          }
        );

      # Makes the package of this flake the default. The key makes it one module, however
      # many of the modules below a system imports.
      flakePackage =
        { lib, pkgs, ... }:
        {
          key = "pika-cloud-lifecycle/flakePackage";
          services.pika-cloud-lifecycle.package = lib.mkDefault (package pkgs);
        };

      # A system with the image module and the settings that it needs to build.
      system =
        system: image: settings:
        (lib.nixosSystem {
          inherit system;
          modules = [
            image
            {
              boot.isContainer = true; # the image builder adds the disk and boot loader
              system.stateVersion = "25.11";
            }
            settings
          ];
        }).config.system.build.toplevel;
    in
    {
      packages = each (system: rec {
        pika-cloud-lifecycle = package nixpkgs.legacyPackages.${system};
        default = pika-cloud-lifecycle;
      });

      overlays.default = import ./overlay.nix;

      nixosModules = {
        default.imports = [ ./module.nix flakePackage ];
        managed-agent-image.imports = [ ./incus/managed-agent-image.nix flakePackage ];
        ci-image.imports = [ ./incus/ci-image.nix flakePackage ];
      };

      checks = each (host: {
        package = self.packages.${host}.default; # the build runs the tests
        managed-agent-image = system host self.nixosModules.managed-agent-image {
          services.pika-cloud-managed-agent = {
            command = [ "/run/current-system/sw/bin/sleep" "infinity" ];
            probe = "true";
          };
        };
        ci-image = system host self.nixosModules.ci-image { };
      });

      devShells = each (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = pkgs.mkShell {
            packages = [
              pkgs.go
              pkgs.jq
              pkgs.mandoc
              pkgs.nodejs
              pkgs.python3
              pkgs.shellcheck
              pkgs.strace
            ];
          };
        }
      );
    };
}
