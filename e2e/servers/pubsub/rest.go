package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// rest answers the REST form of the calls that our clients and tests make.
type rest struct{ *front }

// faults is how Google says them: https://cloud.google.com/apis/design/errors
var faults = map[codes.Code]struct {
	http int
	name string
}{
	codes.NotFound:           {http.StatusNotFound, "NOT_FOUND"},
	codes.AlreadyExists:      {http.StatusConflict, "ALREADY_EXISTS"},
	codes.InvalidArgument:    {http.StatusBadRequest, "INVALID_ARGUMENT"},
	codes.FailedPrecondition: {http.StatusBadRequest, "FAILED_PRECONDITION"},
	codes.Unimplemented:      {http.StatusNotImplemented, "UNIMPLEMENTED"},
}

func (r rest) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	w.Header().Set("content-type", "application/json")
	answer, err := r.answer(request)
	if err != nil {
		fault, known := faults[status.Code(err)]
		if !known {
			fault.http, fault.name = http.StatusInternalServerError, "INTERNAL"
		}
		w.WriteHeader(fault.http)
		json.NewEncoder(w).Encode(map[string]any{
			"error": map[string]any{"code": fault.http, "status": fault.name, "message": status.Convert(err).Message()},
		})
		return
	}
	w.Write(answer)
}

func (r rest) answer(request *http.Request) ([]byte, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer, err := r.call(request.Context(), request.Method, strings.TrimPrefix(request.URL.Path, "/v1/"), body)
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(answer)
}

func (r rest) call(ctx context.Context, method, path string, body []byte) (proto.Message, error) {
	name, verb, _ := strings.Cut(path, ":")
	project, list := strings.CutSuffix(name, "/subscriptions")
	topic := strings.Contains(name, "/topics/")
	switch {
	case method == "GET" && list:
		return r.ListSubscriptions(ctx, &pb.ListSubscriptionsRequest{Project: project})
	case method == "PUT" && topic:
		return r.CreateTopic(ctx, &pb.Topic{Name: name})
	case method == "PUT":
		wanted := &pb.Subscription{}
		if err := read(body, wanted); err != nil {
			return nil, err
		}
		wanted.Name = name
		return r.CreateSubscription(ctx, wanted)
	case method == "GET" && !topic:
		return r.GetSubscription(ctx, &pb.GetSubscriptionRequest{Subscription: name})
	case method == "DELETE" && !topic:
		return r.DeleteSubscription(ctx, &pb.DeleteSubscriptionRequest{Subscription: name})
	case method == "POST" && verb == "publish":
		wanted := &pb.PublishRequest{}
		if err := read(body, wanted); err != nil {
			return nil, err
		}
		wanted.Topic = name
		return r.Publish(ctx, wanted)
	case method == "POST" && verb == "pull":
		wanted := &pb.PullRequest{}
		if err := read(body, wanted); err != nil {
			return nil, err
		}
		wanted.Subscription = name
		return r.Pull(ctx, wanted)
	case method == "POST" && verb == "modifyAckDeadline":
		wanted := &pb.ModifyAckDeadlineRequest{}
		if err := read(body, wanted); err != nil {
			return nil, err
		}
		wanted.Subscription = name
		return r.ModifyAckDeadline(ctx, wanted)
	}
	return nil, status.Error(codes.Unimplemented, method+" "+path)
}

func read(body []byte, into proto.Message) error {
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, into); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}
