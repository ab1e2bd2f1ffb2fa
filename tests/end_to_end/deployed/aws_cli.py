"""The AWS CLI, started once for many commands: each runs in a fork of the process that has it.

With arguments it runs a command, without any it serves them; AWS_CLI_SOCKET is where both meet.
"""

import os
import signal
import socket
import sys
from pathlib import Path

PLACE = os.environ["AWS_CLI_SOCKET"]
SERVICES = ("cloudformation", "lambda", "logs", "sqs")  # what most commands ask


def serve():
    from awscli.clidriver import create_clidriver  # noqa: PLC0415  who runs a command has none

    driver = create_clidriver()
    driver._get_command_table()
    for each in SERVICES:
        driver.session.get_service_model(each)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(PLACE)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            client, _ = listener.accept()
            with client:
                if os.fork() == 0:
                    client.sendall(bytes([answer(driver, client)]))
                    os._exit(0)


def answer(driver, client):
    """Run one command in the caller's folder, on its standard streams; return its exit code."""
    message, streams, *_ = socket.recv_fds(client, 1 << 20, 3)
    folder, *arguments = message.decode().split("\0")
    os.chdir(folder)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    try:
        return driver.main(arguments)
    except SystemExit as ended:
        return ended.code
    finally:
        sys.stdout.flush()


def ask(arguments):
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(PLACE)
        message = "\0".join([str(Path.cwd()), *arguments]).encode()
        socket.send_fds(server, [message], [0, 1, 2])
        [code] = server.recv(1)
        return code


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1:]) if sys.argv[1:] else serve())
