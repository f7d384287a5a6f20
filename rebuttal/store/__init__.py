"""What is kept on disk: identities and fingerprints, stored artifacts, training checkpoints, and files that are
written atomically."""
