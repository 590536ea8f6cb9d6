# A WSGI application for uWSGI. Posts are read and counted.
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["REQUEST_METHOD"] != "POST":
        return [b"Hello, world!\n"]
    body, count = environ["wsgi.input"], 0
    while data := body.read(65536):
        count += len(data)
    return [b"%d\n" % count]
