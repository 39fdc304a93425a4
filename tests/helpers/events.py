"""Event files, read by the rules of their format."""

import struct


def masked_crc(data):
    """CRC-32C (Castagnoli), rotated as in TensorFlow's record files."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder):
    """The events of a folder, with the checksums checked."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            assert struct.unpack("<I", data[8:12]) == (masked_crc(data[:8]),)
            body, data = data[12 : 12 + size], data[12 + size :]
            assert struct.unpack("<I", data[:4]) == (masked_crc(body),)
            data = data[4:]
            found.append(Event.FromString(body))
    return found


def scalars(folder):
    """Every scalar that was written, in order: (tag, step, value)."""
    return [
        (value.tag, event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]
