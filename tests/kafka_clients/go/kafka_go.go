package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
)

// kafka-go: knows no idempotence, and its group path speaks the oldest versions there are.
type kafkaGo struct{ bootstrap string }

func (k kafkaGo) module() string { return "github.com/segmentio/kafka-go" }

func (k kafkaGo) send(ctx context.Context, writer *kafka.Writer, messages []message) error {
	writer.Addr = kafka.TCP(k.bootstrap)
	writer.RequiredAcks = kafka.RequireAll
	writer.AllowAutoTopicCreation = true
	writer.BatchTimeout = 10 * time.Millisecond
	defer writer.Close()
	var all []kafka.Message
	for _, m := range messages {
		n := kafka.Message{Key: m.key, Value: m.value}
		for _, h := range m.headers {
			n.Headers = append(n.Headers, kafka.Header{Key: h.name, Value: h.value})
		}
		all = append(all, n)
	}
	for {
		err := writer.WriteMessages(ctx, all...)
		// Kafka creates a topic only after it has refused it once, and kafka-go leaves it to its
		// user to ask again. Nothing was written then.
		if !errors.Is(err, kafka.UnknownTopicOrPartition) || ctx.Err() != nil {
			return err
		}
	}
}

func (k kafkaGo) produce(ctx context.Context, topic, codec string, messages []message) error {
	var compression compress.Compression
	if codec != "none" {
		if err := compression.UnmarshalText([]byte(codec)); err != nil {
			return err
		}
	}
	first := kafka.BalancerFunc(func(kafka.Message, ...int) int { return 0 })
	writer := &kafka.Writer{Topic: topic, Balancer: first, Compression: compression}
	return k.send(ctx, writer, messages)
}

func (k kafkaGo) produceKeyed(ctx context.Context, topic string, messages []message) error {
	return k.send(ctx, &kafka.Writer{Topic: topic, Balancer: &kafka.Hash{}}, messages)
}

func (k kafkaGo) read(ctx context.Context, topic string, count int,
	check func(int64, message) error) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{k.bootstrap}, Topic: topic, Partition: 0, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	for range count {
		found, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		m := message{key: found.Key, value: found.Value}
		for _, h := range found.Headers {
			m.headers = append(m.headers, header{h.Key, h.Value})
		}
		if err := check(found.Offset, m); err != nil {
			return err
		}
	}
	return nil
}

func (k kafkaGo) consumeInGroup(
	ctx context.Context, topic, group string, count int,
) ([]string, error) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{k.bootstrap}, GroupID: group, Topic: topic,
		StartOffset: kafka.FirstOffset, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	var values []string
	for len(values) < count {
		found, err := reader.FetchMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("after %d messages: %w", len(values), err)
		}
		values = append(values, string(found.Value))
		if err := reader.CommitMessages(ctx, found); err != nil {
			return nil, err
		}
	}
	return values, nil
}
