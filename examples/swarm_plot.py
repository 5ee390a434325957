"""An animation of a particle swarm as a web page, one frame per generation.

    python examples/swarm_plot.py swarm.html            # the default variant
    python examples/swarm_plot.py swarm.html clpso      # another one
    jhpo tune examples/swarm_plot.py --strategy pso --set variant=clpso

The page needs plotly (``pip install 'jhpo[plot]'``).
"""

from __future__ import annotations

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jhpo

GENERATIONS = 5 if os.environ.get("JHPO_EXAMPLE_FAST") == "1" else 60
space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0), "y": jhpo.Float(-5.0, 5.0)})


def objective(hp: dict) -> jax.Array:
    """A tilted bowl with a hundred local minima; the global minimum is 0 at (2, -1)."""
    x, y = hp["x"] - 2.0, hp["y"] + 1.0
    return 0.5 * (x + 0.4 * y) ** 2 + y**2 + 4.0 - 2.0 * jnp.cos(2 * jnp.pi * x) - 2.0 * jnp.cos(2 * jnp.pi * y)


def animation(places: np.ndarray, values: np.ndarray, title: str):
    """A figure with one frame per generation: ``places`` [g, n, 2] over the landscape, ``values`` [g, n]."""
    import plotly.graph_objects as go

    line = np.linspace(-5.0, 5.0, 120)
    x, y = np.meshgrid(line, line)
    depth = np.sqrt(np.asarray(objective({"x": jnp.asarray(x), "y": jnp.asarray(y)})))
    landscape = go.Heatmap(x=line, y=line, z=depth, colorscale="Blues_r", showscale=False, hoverinfo="skip")
    best = np.minimum.accumulate(values.min(axis=1))

    def dots(g: int) -> go.Scatter:
        return go.Scatter(x=places[g, :, 0], y=places[g, :, 1], mode="markers", marker={"color": "crimson", "size": 8})

    frames = [
        go.Frame(data=[dots(g)], traces=[1], name=str(g), layout={"title.text": f"{title}: best {best[g]:.2e}"})
        for g in range(len(places))
    ]
    steps = [{"label": f.name, "method": "animate", "args": [[f.name], {"mode": "immediate"}]} for f in frames]
    play = {"label": "play", "method": "animate", "args": [None, {"frame": {"duration": 200}, "fromcurrent": True}]}
    figure = go.Figure(data=[landscape, dots(0)], frames=frames)
    figure.update_layout(
        title=title, width=760, height=800, template="plotly_white", showlegend=False,
        sliders=[{"steps": steps, "currentvalue": {"prefix": "generation "}}],
        updatemenus=[{"type": "buttons", "buttons": [play], "x": 0.0, "y": 1.08}],
    )  # fmt: skip
    return figure


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "swarm.html"
    variant = sys.argv[2] if len(sys.argv) > 2 else "spso2006"
    strategy = jhpo.PSO(30, variant=variant, horizon=GENERATIONS)
    _, trace = jhpo.run(strategy, objective, space, GENERATIONS, jax.random.key(1))
    hp = space.from_unit(trace.units)
    places = np.stack([np.asarray(hp["x"]), np.asarray(hp["y"])], axis=-1)
    values = np.asarray(trace.value)
    g, i = np.unravel_index(values.argmin(), values.shape)
    print(f"{variant}: {values[g, i]:.2e} at x = {places[g, i, 0]:.4f}, y = {places[g, i, 1]:.4f} in generation {g}")
    animation(places, values, variant).write_html(path)
    print(f"open {path} in a browser")


if __name__ == "__main__":
    main()
