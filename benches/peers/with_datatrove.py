"""MinHash deduplication of a Parquet file's programs with datatrove, as its example does it: signatures, buckets,
clusters, on local processes. Prints how many programs are left and the least number of clusters that means."""

import json
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader


def main() -> None:
    programs, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    # Sixteen buckets of eight, as finch has for a threshold of 0.85.
    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8)
    reader = ParquetReader(str(programs), text_key="code", id_key="program_id")
    signatures, buckets = f"{out}/signatures", f"{out}/buckets"
    # One task a file: more files than workers, so that all have work.
    tasks = len(list(programs.glob("*.parquet")))
    LocalPipelineExecutor([reader, MinhashDedupSignature(output_folder=signatures, config=config)], tasks=tasks,
                          workers=workers, logging_dir=f"{out}/logs1").run()
    LocalPipelineExecutor([MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)],
                          tasks=16, workers=workers, logging_dir=f"{out}/logs2").run()
    LocalPipelineExecutor([MinhashDedupCluster(input_folder=buckets, output_folder=f"{out}/clusters", config=config,
                                               save_cluster_id=True)], tasks=1, logging_dir=f"{out}/logs3").run()
    removed = sum(path.stat().st_size // 4 for path in Path(f"{out}/clusters").rglob("*.remove"))
    print(json.dumps({"removed": removed}))


if __name__ == "__main__":
    main()
