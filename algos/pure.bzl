"""What sets the pure packages apart: no exceptions, hence nothing that could throw past the strand."""

PURE_COPTS = ["-fno-exceptions"]
