package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const steadyPause = 5 * time.Millisecond

// steady is a producer of franz-go that writes on while brokers die. It sends the numbers from
// first on, as eight bytes, to the partitions in turn until standard input says "stop" or ends.
// Prints "first_ack", and at the end "sent", with [partition, offset, number] of each
// acknowledgement.
func steady(bootstrap, topic string, partitions, first int64) error {
	c, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MetadataMaxAge(time.Second),
		kgo.MetadataMinAge(100*time.Millisecond),
	)
	if err != nil {
		return err
	}
	stopping := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(stopping)
	}()
	var lock sync.Mutex
	acked, failed := [][3]int64{}, []string{}
	number := first
	for running := true; running; number++ {
		value := binary.BigEndian.AppendUint64(nil, uint64(number))
		record := &kgo.Record{Topic: topic, Partition: int32(number % partitions), Value: value}
		sent := number
		c.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				failed = append(failed, err.Error())
				return
			}
			if len(acked) == 0 {
				report("first_ack", map[string]any{})
			}
			acked = append(acked, [3]int64{int64(r.Partition), r.Offset, sent})
		})
		select {
		case <-stopping:
			running = false
		case <-time.After(steadyPause):
		}
	}
	if err := c.Flush(context.Background()); err != nil {
		return err
	}
	c.Close()
	report("sent", map[string]any{"acked": acked, "failed": failed, "next": number})
	return nil
}

// steadyOf reads the arguments TOPIC PARTITIONS FIRST.
func steadyOf(bootstrap string, arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("TOPIC PARTITIONS FIRST are wanted, not %v", arguments)
	}
	partitions, err := strconv.ParseInt(arguments[1], 10, 32)
	if err != nil {
		return err
	}
	first, err := strconv.ParseInt(arguments[2], 10, 64)
	if err != nil {
		return err
	}
	return steady(bootstrap, arguments[0], partitions, first)
}
