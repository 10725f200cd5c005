"""tunerd as a Debian package and systemd service, in a Debian that is really booted."""
