"""The main job on the embedded world: train on text, caption pictures, compare."""

from close.demo.run import run_demo

__all__ = ["run_demo"]
