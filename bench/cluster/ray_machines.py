"""A Ray cluster whose machines are processes of this one: python ray_machines.py CPUS CPUS ...

Prints its address, and then obeys the lines of standard input: `add CPUS`, perhaps with environment variables
`NAME=VALUE`, which prints the machine's number, and `remove NUMBER`. It ends with standard input.
"""

import sys

from ray.cluster_utils import Cluster

MEMORY = 200 * 1024**2
"""Bytes of shared memory of each machine."""


def main(*cpus: str) -> None:
    """Run until standard input ends."""
    first, *others = ({"num_cpus": int(number), "object_store_memory": MEMORY} for number in cpus)
    cluster = Cluster(initialize_head=True, head_node_args={**first, "include_dashboard": False})
    machines = [cluster.head_node, *(cluster.add_node(**each) for each in others)]
    try:
        print(cluster.address, flush=True)
        for line in sys.stdin:
            command, number, *variables = line.split()
            if command == "add":
                environment = dict(variable.split("=", 1) for variable in variables)
                machines.append(
                    cluster.add_node(num_cpus=int(number), object_store_memory=MEMORY, env_vars=environment)
                )
                print(len(machines) - 1, flush=True)
            else:
                cluster.remove_node(machines[int(number)], allow_graceful=False)
                print("removed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
