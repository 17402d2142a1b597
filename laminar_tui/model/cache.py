"""What the hub's cache holds: models that can be opened without asking the hub."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CachedModel:
    """A model in the cache.

    Attributes:
        repo_id: owner/name.
        revision: a branch or tag that the cache knows; a commit where it knows none.
        size: in bytes, of all its revisions.
        folder: of that revision's files.
        has_weights: parameters that can be read safely are there.
    """

    repo_id: str
    revision: str
    size: int
    folder: Path
    has_weights: bool


def cached_models() -> list[CachedModel]:
    """List the models in the hub's cache, the last used first; none where there is no cache. Reads the disk."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except (CacheNotFound, OSError, ValueError):
        return []
    models = []
    for repo in sorted(found.repos, key=lambda each: -each.last_accessed):
        revisions = sorted(repo.revisions, key=lambda each: ("main" not in each.refs, -each.last_modified))
        if repo.repo_type != "model" or not revisions:
            continue
        first = revisions[0]
        names = {file.file_name for file in first.files}
        models.append(
            CachedModel(
                repo.repo_id,
                "main" if "main" in first.refs else next(iter(sorted(first.refs)), first.commit_hash),
                repo.size_on_disk,
                Path(first.snapshot_path),
                any(name.endswith((".safetensors", ".gguf")) for name in names) and "config.json" in names,
            )
        )
    return models
