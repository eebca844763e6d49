# The options of the modules, by their paths.
let
  lib = import ./nixpkgs/lib.nix;
  collect =
    path: set:
    builtins.concatLists (
      lib.mapAttrsToList (
        name: value:
        let
          here = path ++ [ name ];
        in
        if (value._type or "") == "option" then
          [
            {
              name = builtins.concatStringsSep "." here;
              type = value.type.description;
              description = value.description or "";
              example = value ? example;
            }
          ]
        else
          collect here value
      ) set
    );
  inherit
    (lib.nixosSystem {
      modules = [
        ../incus/managed-agent-image.nix
        ../incus/ci-image.nix
      ];
    })
    options
    ;
in
collect [ ] { inherit (options) services; }
