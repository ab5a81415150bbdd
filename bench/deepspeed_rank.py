"""One rank of the contender DeepSpeed of bench/comm: its shared-memory all-reduce for CPUs, which is
compiled on first use. python deepspeed_rank.py ADDRESS RANK SIZE, with torch.distributed's variables
set."""
import os
import socket
import sys
import time

os.environ["DS_ACCELERATOR"] = "cpu"
# The op's compiler driver is a program of this environment.
os.environ["PATH"] = os.path.dirname(sys.executable) + ":" + os.environ["PATH"]
import torch

torch.set_num_threads(1)
import deepspeed
import deepspeed.comm as comm
from deepspeed.comm.torch import TorchBackend

comm.init_distributed(dist_backend="gloo", verbose=False)
backend = comm.comm.cdb
if not isinstance(backend, TorchBackend) or backend.shm_comm_op is None:
    sys.exit("deepspeed_rank: the shared-memory op was not built")

driver = socket.socket(socket.AF_UNIX)
driver.connect("\0" + sys.argv[1])
lines = driver.makefile("rw", buffering=1)
print("hello", sys.argv[2], file=lines, flush=True)
buffers = {}
for line in lines:
    operation, size, _, iterations = line.split()
    size, iterations = int(size), int(iterations)
    if operation == "barrier":
        call = comm.barrier
        prepare = lambda: None
    else:
        data = buffers.setdefault(size, torch.zeros(size // 4))
        call = lambda: comm.inference_all_reduce(data)
        prepare = lambda: data.fill_(1e-3)
    times = []
    for i in range(-min(iterations, 10), iterations):
        prepare()
        start = time.perf_counter()
        call()
        if i >= 0:
            times.append(time.perf_counter() - start)
        else:
            time.perf_counter()
    times.sort()
    print(times[len(times) // 2], file=lines, flush=True)
os._exit(0)
