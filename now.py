import resource
import time

t = time.perf_counter()
from pathlib import Path

from trainer.data.readers.tables import *

lay = read_layout(Path("/tmp/w22/big.csv"), None, "auto", "utf-8")
r = read_table(lay, list(range(20)), [(20, {})], missing=False)
print("now", r.numbers.shape, time.perf_counter() - t, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
