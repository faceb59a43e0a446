import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A producer of the Java client that writes on while brokers die; idempotent by default.
 *
 * <pre>
 *   Steady BOOTSTRAP TOPIC PARTITIONS FIRST
 * </pre>
 *
 * Sends the numbers from FIRST on, as eight bytes, to the partitions in turn until standard input
 * says "stop" or ends. Prints "first_ack", and at the end "sent", with [partition, offset, number]
 * of each acknowledgement.
 */
public final class Steady {
    private static final long PAUSE_MS = 5;

    private Steady() {}

    public static void main(String[] arguments) throws Exception {
        int partitions = Integer.parseInt(arguments[2]);
        long number = Long.parseLong(arguments[3]);
        AtomicBoolean stopping = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                System.in.read();
            } catch (IOException ended) {
                // The end of it is as good as a word.
            }
            stopping.set(true);
        });
        input.setDaemon(true);
        input.start();
        List<String> acked = Collections.synchronizedList(new ArrayList<>());
        List<String> failed = Collections.synchronizedList(new ArrayList<>());
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", arguments[0],
                "metadata.max.age.ms", 1000,
                "delivery.timeout.ms", 60000,
                "request.timeout.ms", 10000);
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            for (; !stopping.get(); number++) {
                long sent = number;
                byte[] value = ByteBuffer.allocate(Long.BYTES).putLong(sent).array();
                int partition = (int) (sent % partitions);
                producer.send(new ProducerRecord<>(arguments[1], partition, null, value),
                        (answer, error) -> {
                            if (error != null) {
                                failed.add('"' + error.getClass().getSimpleName() + '"');
                                return;
                            }
                            if (acked.isEmpty()) {
                                System.out.println("{\"event\":\"first_ack\"}");
                            }
                            acked.add("[" + partition + "," + answer.offset() + "," + sent + "]");
                        });
                Thread.sleep(PAUSE_MS);
            }
        }
        System.out.println("{\"event\":\"sent\",\"acked\":[" + String.join(",", acked)
                + "],\"failed\":[" + String.join(",", failed) + "],\"next\":" + number + "}");
    }
}
