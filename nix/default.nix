# The package for use without flakes: nix-build nix
{
  pkgs ? import <nixpkgs> { },
}:

pkgs.callPackage ./package.nix { }
