"""Stands in for an installed llama-server: the same command line, over the wheel's copy of the same listener.

Test machines have no llama-server to install; options that llama-server does not know make this fail, as it would.
"""

import argparse
import sys
import time

import xllamacpp

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--alias", required=True)
parser.add_argument("--host", required=True)
for number in ("--ctx-size", "--parallel", "--threads", "--batch-size", "--ubatch-size", "--cache-ram", "--verbosity"):
    parser.add_argument(number, type=int, required=True)
parser.add_argument("--jinja", action="store_true")
parser.add_argument("--check-tensors", action="store_true")
given = parser.parse_args(sys.argv[1:])

params = xllamacpp.CommonParams()
params.model.path = given.model
params.model_alias = {given.alias}
params.hostnames = [given.host]
params.n_ctx, params.n_parallel = given.ctx_size, given.parallel
params.n_batch, params.n_ubatch = given.batch_size, given.ubatch_size
params.cpuparams.n_threads, params.cache_ram_mib = given.threads, given.cache_ram
params.check_tensors, params.warmup = given.check_tensors, False
server = xllamacpp.Server(params)
while True:
    time.sleep(3600)
