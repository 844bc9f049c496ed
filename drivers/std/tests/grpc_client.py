"""A client of the greeter made of grpcio: `python3 grpc_client.py PORT`. Needs grpcio and protobuf; no protoc, no generated code.

Says a line for every conversation that went as it should, and fails with the first one that did not.
"""

import sys
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto


def messages():
    file = descriptor_pb2.FileDescriptorProto(name="helloworld.proto", package="helloworld", syntax="proto3")
    request = file.message_type.add(name="HelloRequest")
    request.field.add(name="name", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    request.field.add(name="times", number=2, type=FIELD.TYPE_UINT32, label=FIELD.LABEL_OPTIONAL)
    reply = file.message_type.add(name="HelloReply")
    reply.field.add(name="message", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName("helloworld." + name))
    return find("HelloRequest"), find("HelloReply")


Request, Reply = messages()


def stub(make, method):
    return make(
        "/helloworld.Greeter/" + method,
        request_serializer=Request.SerializeToString,
        response_deserializer=Reply.FromString,
    )


def refused(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error.details()
    raise AssertionError("it was not refused")


def unary(channel):
    hello = stub(channel.unary_unary, "SayHello")
    for name in ["World", "", "W\u00f6rld \U0001f600"] * 50:
        assert hello(Request(name=name)).message == f"Hello, {name}!"


def metadata(channel):
    hello = stub(channel.unary_unary, "SayHello")
    fields = [("x-greeting", "Moin"), ("x-other-bin", b"\x00\xff"), ("authorization", "Bearer x")]
    assert hello(Request(name="Kiel"), metadata=fields).message == "Moin, Kiel!"


def errors(channel):
    hello = stub(channel.unary_unary, "SayHello")
    details = refused(grpc.StatusCode.NOT_FOUND, lambda: hello(Request(name="nobody")))
    assert details == "100 % of us know n\u00f6body", details
    refused(grpc.StatusCode.UNIMPLEMENTED, lambda: stub(channel.unary_unary, "Nothing")(Request()))


def broken(channel):
    call = channel.unary_unary("/helloworld.Greeter/SayHello")  # bytes, as they are
    refused(grpc.StatusCode.INTERNAL, lambda: call(b"\x0a\x05abc"))
    refused(grpc.StatusCode.INTERNAL, lambda: call(b"\x0b\x0c"))
    refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: call(b"\x10\x01" * 70000))


def deadlines(channel):
    hello = stub(channel.unary_unary, "SayHello")
    assert hello(Request(name="soon"), timeout=60).message == "Hello, soon!"
    begin = time.monotonic()
    refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: hello(Request(name="Sleepyhead"), timeout=0.1))
    assert time.monotonic() - begin < 5
    assert hello(Request(name="again")).message == "Hello, again!"


def large(channel):
    hello = stub(channel.unary_unary, "SayHello")
    name = "".join(str(n) for n in range(500_000))[:3_000_000]  # it compresses, but not a thousand times
    assert hello(Request(name=name)).message == f"Hello, {name}!"
    refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: hello(Request(name="x" * 5_000_000)))


def client_streaming(channel):
    hello = stub(channel.stream_unary, "SayHelloToAll")
    assert hello(Request(name=f"name {n}") for n in range(1000)).message == "Hello, all 1000 of you!"
    assert hello(iter([])).message == "Hello, all 0 of you!"


def server_streaming(channel):
    hello = stub(channel.unary_stream, "SayHelloOften")
    replies = list(hello(Request(name="World", times=1000)))
    assert len(replies) == 1000 and all(reply.message == "Hello, World!" for reply in replies)
    assert list(hello(Request(name="World"))) == []
    long = "y" * 50_000
    assert [len(reply.message) for reply in hello(Request(name=long, times=100))] == [50_008] * 100
    # Taken back in the middle.
    call = hello(Request(name=long, times=100_000))
    assert next(call).message.startswith("Hello, y")
    call.cancel()


def many_at_once(channel):
    hello = stub(channel.unary_unary, "SayHello")
    futures = [hello.future(Request(name=f"number {n}")) for n in range(500)]
    for n, future in enumerate(futures):
        assert future.result().message == f"Hello, number {n}!"


def main():
    target = "127.0.0.1:" + sys.argv[1]
    options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
    conversations = [
        unary, metadata, errors, broken, deadlines, large, client_streaming, server_streaming, many_at_once,
    ]
    codings = [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]
    for coding in codings:
        with grpc.insecure_channel(target, options=options, compression=coding) as channel:
            for conversation in conversations:
                conversation(channel)
                print("ok", coding.name, conversation.__name__, flush=True)


main()
