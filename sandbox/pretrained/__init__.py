"""Pretrained weights: which are on disk, which a pipeline asks for, and how those are fetched for jobs that have no network."""
