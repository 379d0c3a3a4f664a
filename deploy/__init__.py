"""Images: what builds, checks, locks and audits them, and the manifests and settings of what runs them."""
