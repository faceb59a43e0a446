import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * The Java client, idempotent by default.
 *
 * <pre>
 *   JavaClient java BOOTSTRAP produce PREFIX        one topic for each codec: PREFIX-gzip, ...
 *   JavaClient java BOOTSTRAP verify TOPIC...       reads what any client has produced
 *   JavaClient java BOOTSTRAP group TOPIC GROUP     consumes in a group, commits, resumes
 * </pre>
 *
 * Prints one JSON line for each step done; a step that fails ends the program with its reason.
 */
final class JavaClient {
    private static final int COUNT = 12;
    private static final int GROUP_COUNT = 40;
    private static final Duration TIMEOUT = Duration.ofSeconds(30);
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    private final String bootstrap;

    private JavaClient(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        List<String> rest = Arrays.asList(arguments).subList(3, arguments.length);
        JavaClient client = new JavaClient(arguments[1]);
        System.out.printf("{\"event\":\"client\",\"name\":\"java\",\"version\":\"%s\"}%n",
                AppInfoParser.getVersion());
        switch (arguments[2]) {
            case "produce":
                client.produce(rest.get(0));
                break;
            case "verify":
                client.verify(rest);
                break;
            case "group":
                client.group(rest.get(0), rest.get(1));
                break;
            default:
                throw new IllegalArgumentException(arguments[2]);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Null keys, null values and repeated headers occur, a null key never with a null value. */
    private static ProducerRecord<byte[], byte[]> record(String topic, int number) {
        byte[] key = number % 3 == 0 ? null : bytes("key-" + number);
        String filling = "x".repeat(number == 11 ? 50_000 : number * 100);
        boolean hasValue = number != 1 && number != 5;
        byte[] value = hasValue ? bytes("value-" + number + "-" + filling) : null;
        var record = new ProducerRecord<>(topic, 0, key, value);
        if (number % 2 == 1) {
            record.headers().add("trace", bytes("t-" + number));
            record.headers().add("tag", bytes("a")).add("tag", bytes("b"));
        }
        return record;
    }

    private void send(List<ProducerRecord<byte[], byte[]>> records, String codec)
            throws Exception {
        Map<String, Object> settings =
                Map.of("bootstrap.servers", bootstrap, "compression.type", codec);
        var serializer = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(settings, serializer, serializer)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (var record : records) {
                sent.add(producer.send(record));
            }
            for (Future<RecordMetadata> future : sent) {
                future.get();
            }
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> settings) {
        Map<String, Object> all = new java.util.HashMap<>(settings);
        all.put("bootstrap.servers", bootstrap);
        all.put("enable.auto.commit", false);
        all.put("auto.offset.reset", "earliest");
        var deserializer = new ByteArrayDeserializer();
        return new KafkaConsumer<>(all, deserializer, deserializer);
    }

    private void produce(String prefix) throws Exception {
        for (String codec : CODECS) {
            String topic = prefix + "-" + codec;
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int number = 0; number < COUNT; number++) {
                records.add(record(topic, number));
            }
            send(records, codec);
            System.out.printf(
                    "{\"event\":\"produced\",\"topic\":\"%s\",\"codec\":\"%s\",\"count\":%d}%n",
                    topic, codec, COUNT);
        }
    }

    private void verify(List<String> topics) {
        try (var consumer = consumer(Map.of())) {
            for (String topic : topics) {
                var partition = new TopicPartition(topic, 0);
                consumer.assign(List.of(partition));
                consumer.seekToBeginning(List.of(partition));
                int next = 0;
                for (var found : take(consumer, COUNT)) {
                    check(found, topic, next++);
                }
                System.out.printf(
                        "{\"event\":\"verified\",\"topic\":\"%s\",\"count\":%d}%n",
                        topic, COUNT);
            }
        }
    }

    private static void check(
            ConsumerRecord<byte[], byte[]> found, String topic, int number) {
        var expected = record(topic, number);
        Header[] headers = expected.headers().toArray();
        boolean same = found.topic().equals(topic) && found.offset() == number
                && Arrays.equals(found.key(), expected.key())
                && Arrays.equals(found.value(), expected.value())
                && Arrays.equals(found.headers().toArray(), headers);
        if (!same) {
            throw new AssertionError(found + " is not record " + number);
        }
    }

    private static List<ConsumerRecord<byte[], byte[]>> take(
            KafkaConsumer<byte[], byte[]> consumer, int count) {
        Instant deadline = Instant.now().plus(TIMEOUT);
        List<ConsumerRecord<byte[], byte[]>> taken = new ArrayList<>();
        while (taken.size() < count) {
            if (Instant.now().isAfter(deadline)) {
                throw new AssertionError(taken.size() + " of " + count + " records");
            }
            consumer.poll(Duration.ofMillis(500)).forEach(taken::add);
        }
        if (taken.size() > count) {
            throw new AssertionError(taken.size() + " records, " + count + " expected");
        }
        return taken;
    }

    private void group(String topic, String group) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int number = 0; number < GROUP_COUNT; number++) {
            records.add(new ProducerRecord<>(
                    topic, bytes("key-" + number), bytes("value-" + number)));
        }
        send(records, "none");
        List<String> first = consumeInGroup(topic, group, GROUP_COUNT / 2);
        List<String> second = consumeInGroup(topic, group, GROUP_COUNT - first.size());
        Set<String> all = new HashSet<>(first);
        all.addAll(second);
        if (all.size() != GROUP_COUNT || first.size() + second.size() != GROUP_COUNT) {
            throw new AssertionError("not each value once: " + first + " then " + second);
        }
        System.out.printf("{\"event\":\"resumed\",\"first\":%d,\"second\":%d}%n",
                first.size(), second.size());
    }

    private List<String> consumeInGroup(String topic, String group, int count) {
        // One record at a time: the position to commit is then behind exactly those taken.
        Map<String, Object> settings = Map.of("group.id", group, "max.poll.records", 1);
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            List<String> values = new ArrayList<>();
            for (var found : take(consumer, count)) {
                values.add(new String(found.value(), StandardCharsets.UTF_8));
            }
            consumer.commitSync();
            return values;
        }
    }
}
