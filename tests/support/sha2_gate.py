"""A store whose accounts use caching_sha2_password or sha256_password: MySQL's login in front of a MariaDB server.

Written from MySQL's documentation ("Caching SHA-2 Pluggable Authentication", "SHA-256 Pluggable Authentication") and with another
library's cryptography than the proxy's, so that the two check each other. After the login it passes bytes on to the server behind it.

    sha2_gate.py PORT SERVER_PORT PLUGIN USER PASSWORD [CERT KEY]

Each login prints how it went: "tls|plain fast|clear|rsa|empty|wrong".
"""

import hashlib
import os
import socket
import ssl
import struct
import sys
import threading

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PORT, SERVER, PLUGIN, USER, PASSWORD = int(sys.argv[1]), int(sys.argv[2]), *(a.encode() for a in sys.argv[3:6])
TLS = None
if len(sys.argv) > 6:
    TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TLS.load_cert_chain(sys.argv[6], sys.argv[7])
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
CACHE = set()
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
CONNECT_WITH_DB, TLS_FLAG, PLUGIN_AUTH, LENENC = 8, 1 << 11, 1 << 19, 1 << 21


def read(s):
    def exactly(n):
        data = b""
        while len(data) < n:
            more = s.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    head = exactly(4)
    return head[3], exactly(head[0] | head[1] << 8 | head[2] << 16)


def write(s, sequence, payload):
    s.sendall(struct.pack("<I", len(payload))[:3] + bytes([sequence & 255]) + payload)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def until_nul(p, at):
    end = p.index(0, at)
    return p[at:end], end + 1


class Login:
    def __init__(self, client):
        self.client = client
        self.server = socket.create_connection(("127.0.0.1", SERVER))
        _, greeting = read(self.server)
        version_end = greeting.index(0, 1) + 1
        self.thread = greeting[version_end : version_end + 4]
        rest = greeting[version_end + 13 :]
        self.native_scramble = greeting[version_end + 4 : version_end + 12] + rest[18:30]
        flags = struct.unpack("<H", rest[0:2])[0] | struct.unpack("<H", rest[5:7])[0] << 16
        # CLIENT_MYSQL set: nothing of MariaDB's own
        self.flags = (flags | 1 | PLUGIN_AUTH | LENENC) & ~TLS_FLAG | (TLS_FLAG if TLS else 0)
        self.scramble = bytes(b % 94 + 33 for b in os.urandom(20))
        low, high = struct.pack("<I", self.flags)[:2], struct.pack("<I", self.flags)[2:]
        hello = b"\x0a8.0.36\0" + self.thread + self.scramble[:8] + b"\0" + low + rest[2:5] + high + b"\x15" + bytes(10)
        write(client, 0, hello + self.scramble[8:] + b"\0" + PLUGIN + b"\0")

    def run(self):
        sequence, p = read(self.client)
        if struct.unpack("<I", p[:4])[0] & TLS_FLAG and len(p) == 32:
            self.client = TLS.wrap_socket(self.client, server_side=True)
            sequence, p = read(self.client)
        flags = struct.unpack("<I", p[:4])[0]
        head = p[:32]
        user, at = until_nul(p, 32)
        length = p[at]
        answer, at = p[at + 1 : at + 1 + length], at + 1 + length
        database, plugin = b"", b""
        if flags & CONNECT_WITH_DB:
            database, at = until_nul(p, at)
        if flags & PLUGIN_AUTH:
            plugin, at = until_nul(p, at)
        if plugin != PLUGIN:
            self.scramble = bytes(b % 94 + 33 for b in os.urandom(20))
            write(self.client, sequence + 1, b"\xfe" + PLUGIN + b"\0" + self.scramble + b"\0")
            sequence, answer = read(self.client)
        secure = isinstance(self.client, ssl.SSLSocket)
        sequence, how = self.check(sequence, user, answer, secure)
        print("tls" if secure else "plain", how if user else "nobody", flush=True)
        if how == "wrong":
            text = b"Access denied for user '" + user + b"'@'localhost' (using password: YES)"
            write(self.client, sequence + 1, b"\xff\x15\x04#28000" + text)
            return
        self.enter(sequence, flags, head, user, database)

    def check(self, sequence, user, answer, secure):
        """The sequence number of the client's last packet, and how it went."""
        if user != USER:
            return sequence, "wrong"
        if PLUGIN == b"sha256_password":
            if answer in (b"", b"\0"):
                return sequence, "wrong"
            if secure:
                return sequence, "clear" if answer == PASSWORD + b"\0" else "wrong"
            if answer != b"\1":
                return sequence, "wrong"
            write(self.client, sequence + 1, b"\1" + PEM)
            return self.sealed()
        double = sha(sha(PASSWORD))
        if user in CACHE and len(answer) == 32:
            if sha(xor(answer, sha(double, self.scramble))) == double:
                write(self.client, sequence + 1, b"\1\3")
                return sequence + 1, "fast"
            return sequence, "wrong"
        if not answer:
            return sequence, "wrong"
        write(self.client, sequence + 1, b"\1\4")
        sequence, answer = read(self.client)
        if secure:
            how = "clear" if answer == PASSWORD + b"\0" else "wrong"
        elif answer == b"\2":
            write(self.client, sequence + 1, b"\1" + PEM)
            sequence, how = self.sealed()
        else:
            how = "wrong"
        if how != "wrong":
            CACHE.add(user)
        return sequence, how

    def sealed(self):
        sequence, answer = read(self.client)
        try:
            opened = RSA.decrypt(answer, OAEP)
        except ValueError:
            return sequence, "wrong"
        mask = (self.scramble * (len(opened) // 20 + 1))[: len(opened)]
        return sequence, "rsa" if xor(opened, mask) == PASSWORD + b"\0" else "wrong"

    def enter(self, sequence, flags, head, user, database):
        """Logs in at the server behind with mysql_native_password, then passes bytes on."""
        one = hashlib.sha1(PASSWORD).digest()
        two = hashlib.sha1(one).digest()
        answer = xor(one, hashlib.sha1(self.native_scramble + two).digest())
        flags = flags & ~(TLS_FLAG | LENENC | 1 << 20 | 1 << 29) | 1 << 15 | PLUGIN_AUTH
        p = struct.pack("<I", flags) + head[4:] + user + b"\0" + bytes([20]) + answer
        if flags & CONNECT_WITH_DB:
            p += database + b"\0"
        write(self.server, 1, p + b"mysql_native_password\0")
        _, verdict = read(self.server)
        write(self.client, sequence + 1, verdict)
        if verdict[0] == 0:
            threading.Thread(target=pass_on, args=(self.server, self.client), daemon=True).start()
            pass_on(self.client, self.server)


def pass_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for s in (source, target):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        Login(client).run()
    except (EOFError, OSError):
        pass
    finally:
        client.close()


listener = socket.create_server(("127.0.0.1", PORT), backlog=64)
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
