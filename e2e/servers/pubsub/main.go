// Google's own fake of Pub/Sub (pstest) as a process: gRPC and the REST calls that clients make beside it, on one port.
//
// What it has beyond the fake is in stream.go (streams as fast as Google's, and no more in hand than was asked for), rest.go,
// and two controls for tests: POST /test/sends says how many messages may still be sent, POST /test/later lets time pass.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
)

func main() {
	fake := pstest.NewServer()
	var ahead atomic.Int64
	fake.SetTimeNowFunc(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	front := newFront(&fake.GServer)
	calls := grpc.NewServer()
	pb.RegisterPublisherServer(calls, front)
	pb.RegisterSubscriberServer(calls, front)

	mux := http.NewServeMux()
	mux.Handle("/v1/", rest{front})
	mux.HandleFunc("POST /test/sends", func(w http.ResponseWriter, request *http.Request) {
		var more int64
		if _, err := fmt.Fscan(request.Body, &more); err != nil {
			http.Error(w, "a number of messages: "+err.Error(), http.StatusBadRequest)
			return
		}
		front.allow(more)
	})
	mux.HandleFunc("POST /test/later", func(w http.ResponseWriter, request *http.Request) {
		var seconds int64
		if _, err := fmt.Fscan(request.Body, &seconds); err != nil {
			http.Error(w, "a number of seconds: "+err.Error(), http.StatusBadRequest)
			return
		}
		ahead.Add(seconds * int64(time.Second))
	})
	server := &http.Server{Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if strings.HasPrefix(request.Header.Get("content-type"), "application/grpc") {
			calls.ServeHTTP(w, request)
		} else {
			mux.ServeHTTP(w, request)
		}
	})
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Server started, listening on", listener.Addr())
	log.Fatal(server.Serve(listener))
}
