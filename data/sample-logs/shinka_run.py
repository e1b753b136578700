"""One ShinkaEvolve run; `make.py` starts it in the work folder with its settings.

The settings come as one JSON argument.  All paths are relative, so that none of
the machine's folders ends up in the database.  There are no embeddings, no
novelty judge and no meta recommendations: the endpoint serves programs only.
"""

import atexit
import json
import os
import random
import shutil
import sys

import numpy as np
from shinka.core import EvolutionConfig, ShinkaEvolveRunner
from shinka.database import DatabaseConfig
from shinka.launch import LocalJobConfig


def main():
    """Run one search to its end."""
    run = json.loads(sys.argv[1])
    random.seed(run["seed"])
    np.random.seed(run["seed"])
    evolution = EvolutionConfig(
        task_sys_msg=run["prompt"],
        patch_types=["diff", "full", "cross"],
        patch_type_probs=run.get("patches", [0.6, 0.35, 0.05]),
        num_generations=run["iterations"],
        max_patch_attempts=1,
        max_patch_resamples=1,
        language=run["language"],
        llm_models=[run["model"]],
        llm_dynamic_selection=None,
        llm_kwargs={"temperatures": [0.7], "max_tokens": 4096},
        meta_rec_interval=None,
        embedding_model=None,
        init_program_path=f"tasks/{run['task']}/{run['initial']}",
        results_dir=run["results"],
        max_novelty_attempts=1,
        evolve_prompts=False,
    )
    database = DatabaseConfig(
        num_islands=run.get("islands", 2),
        archive_size=30,
        num_archive_inspirations=run.get("top", 0),
        num_top_k_inspirations=0,
        migration_interval=run.get("migration", 10),
        migration_rate=0.1,
    )
    job = LocalJobConfig(
        eval_program_path="shinka_evaluate.py",
        extra_cmd_args={"task": run["task"]},
        time="00:00:%02d" % run.get("timeout", 8),
    )
    runner = ShinkaEvolveRunner(evolution, job, database, verbose=True, max_evaluation_jobs=1,
                                max_proposal_jobs=1, max_db_workers=1)
    if run.get("wal"):
        keep_wal(run["results"])
    runner.run()


def keep_wal(folder):
    """Leave the database as a killed run leaves it: with its write-ahead log.

    Many committed databases look like this.  SQLite merges the log when the last
    connection closes, so both files are copied before that, and put back at the
    very end of the process.
    """
    names = [f"{folder}/programs.sqlite", f"{folder}/programs.sqlite-wal"]
    cleanup = ShinkaEvolveRunner._cleanup_async

    async def copy_first(self):
        """Copy both files while the writer still has them open."""
        for name in names:
            shutil.copyfile(name, f"{name}.copy")
        await cleanup(self)

    def put_back():
        """Replace what the last close left behind."""
        for name in names:
            os.replace(f"{name}.copy", name)

    ShinkaEvolveRunner._cleanup_async = copy_first
    atexit.register(put_back)


if __name__ == "__main__":
    main()
