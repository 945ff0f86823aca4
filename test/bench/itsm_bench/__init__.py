"""The benchmarks of pgsync_itsm; test/bench/run starts them."""
