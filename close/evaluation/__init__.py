"""Scores: caption metrics, VQA accuracy, label accuracy, bootstrap intervals."""
