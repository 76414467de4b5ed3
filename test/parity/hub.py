"""One cache for huggingface_hub, diffusers and torchbrush: does what is asked, and prints what it finds."""

import argparse
import json
import sys
from pathlib import Path

from huggingface_hub import scan_cache_dir, snapshot_download

TASKS = ["download", "offline", "scan", "load-offline", "load"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository")
    parser.add_argument("cache", type=Path)
    parser.add_argument("tasks", nargs="+", choices=TASKS)
    arguments = parser.parse_args()
    repository, cache = arguments.repository, arguments.cache
    answers = {task: run(task, repository, cache) for task in arguments.tasks}
    json.dump(answers, sys.stdout)


def run(task: str, repository: str, cache: Path) -> object:
    if task == "scan":
        return scan(repository, cache)
    is_offline = task in ("offline", "load-offline")
    if not task.startswith("load"):
        return snapshot_download(repository, cache_dir=cache, local_files_only=is_offline)
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(
        repository, cache_dir=cache, local_files_only=is_offline
    )
    return sorted(name for name, part in pipe.components.items() if part is not None)


def scan(repository: str, cache: Path) -> dict[str, object]:
    found = scan_cache_dir(cache)
    (repo,) = [repo for repo in found.repos if repo.repo_id == repository]
    (revision,) = repo.revisions
    return {
        "refs": sorted(revision.refs),
        "files": len(revision.files),
        "warnings": [str(warning) for warning in found.warnings],
    }


if __name__ == "__main__":
    main()
