"""A client that knows nothing of Estafet: it learns the admin API by reflection and lists the nodes of a city."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def list_nodes(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = [name for name in database.get_services() if not name.startswith("grpc.")]
    (service_name,) = services
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName(service_name).FindMethodByName("ListNodes")
    request = message_factory.GetMessageClass(method.input_type)()
    answer = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{service_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return [node.id for node in call(request, timeout=10).nodes]


def main():
    programs = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        city = pathlib.Path(folder) / "city"
        init = [programs / "topology", "init", "--template", "pekanbaru", "--out", city, "--json"]
        made = json.loads(subprocess.run(init, check=True, capture_output=True).stdout.splitlines()[-1])
        config = made["nodes"]["sail"]["config"]
        relay = subprocess.Popen([programs / "estafet-relay", "run", "--config", config], stderr=subprocess.DEVNULL)
        try:
            socket = pathlib.Path(config).parent / "admin.sock"
            deadline = time.monotonic() + 30
            while not socket.exists():
                assert time.monotonic() < deadline, "the relay did not start"
                time.sleep(0.05)
            # Without it grpc names the server by the socket's path, which is no host name, and HTTP/2 libraries that
            # check (h2, here) refuse the request.
            named = [("grpc.default_authority", "localhost")]
            with grpc.insecure_channel(f"unix:{socket}", options=named) as channel:
                nodes = list_nodes(channel)
        finally:
            relay.terminate()
            relay.wait()
    assert sorted(nodes) == sorted(made["nodes"]), nodes
    print("a foreign client listed", len(nodes), "nodes")


if __name__ == "__main__":
    main()
