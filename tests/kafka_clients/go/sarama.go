package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
)

// sarama: its default protocol level is 2.8; idempotence is asked for with one of the codecs.
type saramaClient struct{ bootstrap string }

func (s saramaClient) module() string { return "github.com/IBM/sarama" }

func (s saramaClient) addresses() []string { return []string{s.bootstrap} }

func (s saramaClient) send(topic string, messages []message, config *sarama.Config) error {
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	producer, err := sarama.NewSyncProducer(s.addresses(), config)
	if err != nil {
		return err
	}
	defer producer.Close()
	var all []*sarama.ProducerMessage
	for _, m := range messages {
		p := &sarama.ProducerMessage{Topic: topic}
		if m.key != nil {
			p.Key = sarama.ByteEncoder(m.key)
		}
		if m.value != nil {
			p.Value = sarama.ByteEncoder(m.value)
		}
		for _, h := range m.headers {
			p.Headers = append(p.Headers, sarama.RecordHeader{Key: []byte(h.name), Value: h.value})
		}
		all = append(all, p)
	}
	err = producer.SendMessages(all)
	// By itself this error tells how many failed, and not why.
	var failures sarama.ProducerErrors
	if errors.As(err, &failures) {
		return fmt.Errorf("%w: %w", err, failures[0].Err)
	}
	return err
}

func (s saramaClient) produce(_ context.Context, topic, codec string, messages []message) error {
	config := sarama.NewConfig()
	config.Producer.Partitioner = sarama.NewManualPartitioner
	if err := config.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return err
	}
	if codec == "zstd" {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	return s.send(topic, messages, config)
}

func (s saramaClient) produceKeyed(_ context.Context, topic string, messages []message) error {
	return s.send(topic, messages, sarama.NewConfig())
}

func (s saramaClient) read(ctx context.Context, topic string, count int,
	check func(int64, message) error) error {
	client, err := sarama.NewClient(s.addresses(), sarama.NewConfig())
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	// Not Close: that waits for the fetch on its way, which waits for more records.
	defer partition.AsyncClose()
	for range count {
		select {
		case found := <-partition.Messages():
			m := message{key: found.Key, value: found.Value}
			for _, h := range found.Headers {
				m.headers = append(m.headers, header{string(h.Key), h.Value})
			}
			if err := check(found.Offset, m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Takes messages of all its partitions until it has enough, and marks exactly those.
type taker struct {
	lock   sync.Mutex
	wanted int
	values []string
	enough context.CancelFunc
}

func (t *taker) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (t *taker) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (t *taker) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for {
		select {
		case found, open := <-claim.Messages():
			if !open || !t.take(session, found) {
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (t *taker) take(session sarama.ConsumerGroupSession, found *sarama.ConsumerMessage) bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	if len(t.values) == t.wanted {
		return false
	}
	t.values = append(t.values, string(found.Value))
	session.MarkMessage(found, "")
	if len(t.values) == t.wanted {
		session.Commit()
		t.enough()
	}
	return true
}

func (s saramaClient) consumeInGroup(
	ctx context.Context, topic, group string, count int,
) ([]string, error) {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	consumer, err := sarama.NewConsumerGroup(s.addresses(), group, config)
	if err != nil {
		return nil, err
	}
	until, enough := context.WithCancel(ctx)
	defer enough()
	t := &taker{wanted: count, enough: enough}
	for until.Err() == nil {
		if err := consumer.Consume(until, []string{topic}, t); err != nil && until.Err() == nil {
			return nil, errors.Join(err, consumer.Close())
		}
	}
	if len(t.values) != count {
		return nil, errors.Join(fmt.Errorf("%d of %d messages", len(t.values), count), consumer.Close())
	}
	return t.values, consumer.Close()
}
