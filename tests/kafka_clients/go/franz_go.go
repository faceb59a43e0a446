package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// franz-go: idempotent by default.
type franzGo struct{ bootstrap string }

func (f franzGo) module() string { return "github.com/twmb/franz-go" }

func (f franzGo) open(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(f.bootstrap))...)
}

func (f franzGo) send(
	ctx context.Context, topic string, messages []message, options ...kgo.Opt,
) error {
	c, err := f.open(append(options, kgo.AllowAutoTopicCreation())...)
	if err != nil {
		return err
	}
	defer c.Close()
	var records []*kgo.Record
	for _, m := range messages {
		r := &kgo.Record{Topic: topic, Key: m.key, Value: m.value}
		for _, h := range m.headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
		}
		records = append(records, r)
	}
	return c.ProduceSync(ctx, records...).FirstErr()
}

func (f franzGo) produce(ctx context.Context, topic, codec string, messages []message) error {
	compression := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}
	// Records name no partition, which to this partitioner is partition 0.
	return f.send(ctx, topic, messages, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(compression[codec]))
}

func (f franzGo) produceKeyed(ctx context.Context, topic string, messages []message) error {
	return f.send(ctx, topic, messages)
}

func (f franzGo) read(ctx context.Context, topic string, count int,
	check func(int64, message) error) error {
	partition := map[int32]kgo.Offset{0: kgo.NewOffset().AtStart()}
	c, err := f.open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: partition}))
	if err != nil {
		return err
	}
	defer c.Close()
	for count > 0 {
		records, err := poll(ctx, c, count)
		if err != nil {
			return err
		}
		for _, r := range records {
			m := message{key: r.Key, value: r.Value}
			for _, h := range r.Headers {
				m.headers = append(m.headers, header{h.Key, h.Value})
			}
			if err := check(r.Offset, m); err != nil {
				return err
			}
		}
		count -= len(records)
	}
	return nil
}

func (f franzGo) consumeInGroup(
	ctx context.Context, topic, group string, count int,
) ([]string, error) {
	c, err := f.open(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var values []string
	for len(values) < count {
		records, err := poll(ctx, c, count-len(values))
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			values = append(values, string(r.Value))
		}
		if err := c.CommitRecords(ctx, records...); err != nil {
			return nil, err
		}
	}
	return values, c.LeaveGroupContext(ctx)
}

func poll(ctx context.Context, c *kgo.Client, count int) ([]*kgo.Record, error) {
	fetches := c.PollRecords(ctx, count)
	for _, failed := range fetches.Errors() {
		return nil, fmt.Errorf("fetch of %s/%d: %w", failed.Topic, failed.Partition, failed.Err)
	}
	return fetches.Records(), nil
}
