# Adds the package to nixpkgs.
final: prev: {
  pika-cloud-lifecycle = final.callPackage ./package.nix { };
}
