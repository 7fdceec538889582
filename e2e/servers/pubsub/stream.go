package main

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	// As the fake looks for messages, too. But it sends one of them to each stream then, a hundred a second.
	lookEvery = 10 * time.Millisecond
	// Ten thousand messages a second: a test with as many is over in seconds, and not before it has seen them come.
	batchMax = 100
)

// front is the fake with streams of its own, made of the fake's pulls: they send batches, and no more than the subscriber
// asked to have in hand. The fake sends all it has, so that a subscriber that is killed had everything in hand.
type front struct {
	*pstest.GServer
	mutex sync.Mutex
	// What may still be sent.
	sends int64
	// Which stream has which messages in hand.
	streams map[*inHand]struct{}
}

// inHand are messages by subscription and id.
type inHand map[string]struct{}

func newFront(fake *pstest.GServer) *front {
	return &front{GServer: fake, sends: math.MaxInt32, streams: map[*inHand]struct{}{}}
}

// allow says how many messages streams may send from now on.
func (f *front) allow(sends int64) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.sends = sends
}

// StreamingPull sends messages until the client goes away. What it had in hand stays leased, as at Google.
func (f *front) StreamingPull(stream pb.Subscriber_StreamingPullServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	subscription, err := f.GetSubscription(stream.Context(), &pb.GetSubscriptionRequest{Subscription: first.Subscription})
	if err != nil {
		return err
	}
	properties := &pb.StreamingPullResponse_SubscriptionProperties{
		ExactlyOnceDeliveryEnabled: subscription.EnableExactlyOnceDelivery,
		MessageOrderingEnabled:     subscription.EnableMessageOrdering,
	}
	hand := &inHand{}
	f.mutex.Lock()
	f.streams[hand] = struct{}{}
	f.mutex.Unlock()
	defer func() {
		f.mutex.Lock()
		delete(f.streams, hand)
		f.mutex.Unlock()
	}()
	pings, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- f.hear(stream, first.Subscription, pings) }()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		var answer *pb.StreamingPullResponse
		select {
		case err := <-ended:
			return err
		case <-pings:
			answer = &pb.StreamingPullResponse{}
		case <-look.C:
			messages, err := f.take(stream.Context(), first, hand)
			if err != nil {
				return err
			}
			if len(messages) == 0 {
				continue
			}
			answer = &pb.StreamingPullResponse{ReceivedMessages: messages, SubscriptionProperties: properties}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// hear passes on what the client says on its stream, until it closes it.
func (f *front) hear(stream pb.Subscriber_StreamingPullServer, subscription string, pings chan<- struct{}) error {
	for {
		said, err := stream.Recv()
		if err != nil {
			return nil
		}
		f.Acknowledge(stream.Context(), &pb.AcknowledgeRequest{Subscription: subscription, AckIds: said.AckIds})
		for i, id := range said.ModifyDeadlineAckIds {
			change := &pb.ModifyAckDeadlineRequest{Subscription: subscription, AckIds: []string{id}}
			change.AckDeadlineSeconds = said.ModifyDeadlineSeconds[i]
			f.ModifyAckDeadline(stream.Context(), change)
		}
		select {
		case pings <- struct{}{}:
		default:
		}
	}
}

// take gives messages that the stream may have.
func (f *front) take(ctx context.Context, asked *pb.StreamingPullRequest, hand *inHand) ([]*pb.ReceivedMessage, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	room := min(batchMax, f.sends)
	if asked.MaxOutstandingMessages > 0 {
		room = min(room, asked.MaxOutstandingMessages-int64(len(*hand)))
	}
	if room <= 0 {
		return nil, nil
	}
	pulled, err := f.Pull(ctx, &pb.PullRequest{Subscription: asked.Subscription, MaxMessages: int32(room), ReturnImmediately: true})
	if err != nil {
		return nil, err
	}
	for _, message := range pulled.ReceivedMessages {
		(*hand)[key(asked.Subscription, message.AckId)] = struct{}{}
	}
	f.sends -= int64(len(pulled.ReceivedMessages))
	return pulled.ReceivedMessages, nil
}

// Acknowledge takes messages out of hand for good.
func (f *front) Acknowledge(ctx context.Context, request *pb.AcknowledgeRequest) (*emptypb.Empty, error) {
	f.out(request.Subscription, request.AckIds)
	return f.GServer.Acknowledge(ctx, request)
}

// ModifyAckDeadline by nothing gives messages back.
func (f *front) ModifyAckDeadline(ctx context.Context, request *pb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	if request.AckDeadlineSeconds == 0 {
		f.out(request.Subscription, request.AckIds)
	}
	return f.GServer.ModifyAckDeadline(ctx, request)
}

func (f *front) out(subscription string, ids []string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for hand := range f.streams {
		for _, id := range ids {
			delete(*hand, key(subscription, id))
		}
	}
}

// key of a message: the fake's ack ids are the message's id, a colon and how often it was sent.
func key(subscription, ackID string) string {
	message, _, _ := strings.Cut(ackID, ":")
	return subscription + " " + message
}
