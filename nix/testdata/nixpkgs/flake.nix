{
  description = "A stand-in for nixpkgs, small enough to read";

  outputs =
    { self }:
    {
      lib = import ./lib.nix;
      legacyPackages = (import ./lib.nix).genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] (system: import ./. { inherit system; });
    };
}
