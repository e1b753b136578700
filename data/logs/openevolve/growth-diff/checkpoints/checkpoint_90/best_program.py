"""Model the growth rate of a culture from its density and temperature."""
import math

# EVOLVE-BLOCK-START
LIMIT = 3.0
HALF = 2.0
PEAK = 33.85
SPREAD = 20.0
RIDGE = 0.4091


def crowding(density):
    """A brake that is linear in the logarithm of the free room."""
    return math.log(HALF - density)


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
