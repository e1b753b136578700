"""Model the growth rate of a culture from its density and temperature."""
import math

# EVOLVE-BLOCK-START
LIMIT = 3.0
HALF = 2.0
PEAK = 20.0
SPREAD = 20.0
RIDGE = 1.0


def crowding(density):
    """Crowding plays no part."""
    return 1.0


def warmth(heat):
    """Warmth helps in proportion."""
    return heat / PEAK


def scale(samples):
    """A fixed factor."""
    return RIDGE
# EVOLVE-BLOCK-END


def solve(samples, queries):
    """Return the rate for each (density, heat)."""
    factor = scale(samples)
    return [factor * density * crowding(density) * warmth(heat) for density, heat in queries]
