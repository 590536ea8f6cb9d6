# A CGI program in Python, without a framework.
import os
import sys

sys.stdout.write("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n")
if os.environ["REQUEST_METHOD"] == "GET":
    sys.stdout.write("Hello, world!\n")
