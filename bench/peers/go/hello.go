// Go's net/http/fcgi on descriptor 0. Posts are read and counted.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/fcgi"
)

func hello(answer http.ResponseWriter, request *http.Request) {
	answer.Header().Set("Content-Type", "text/plain")
	if request.Method == "POST" {
		bytes, _ := io.Copy(io.Discard, request.Body)
		fmt.Fprintf(answer, "%d\n", bytes)
		return
	}
	io.WriteString(answer, "Hello, world!\n")
}

func main() {
	log.Fatal(fcgi.Serve(nil, http.HandlerFunc(hello)))
}
