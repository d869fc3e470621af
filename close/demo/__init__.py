"""The main job on the embedded world: train on text, caption pictures, compare."""

from close.demo.run import run_demo, show_results

__all__ = ["run_demo", "show_results"]
