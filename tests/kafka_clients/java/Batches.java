import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.Record;

/**
 * Reads record batches as the Java client's consumer does: one batch in hex per line of standard
 * input, its records on one line of standard output.
 *
 * <pre>
 *   BYTES  --&gt;  OFFSET/TIMESTAMP/KEY/VALUE/HEADER:VALUE;...,...      "-" is null
 * </pre>
 *
 * Where the client throws, the answer is "error" and what it threw.
 */
final class Batches {
    private Batches() {}

    public static void main(String[] arguments) throws IOException {
        InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        BufferedReader questions = new BufferedReader(input);
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            try {
                answers.println(records(bytes(line)));
            } catch (RuntimeException thrown) {
                answers.println("error\t" + thrown);
            }
        }
        answers.flush();
    }

    private static String records(byte[] bytes) {
        List<String> records = new ArrayList<>();
        MemoryRecords batches = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
        batches.batches().forEach(batch -> batch.ensureValid());
        for (Record record : batches.records()) {
            List<String> headers = new ArrayList<>();
            for (Header header : record.headers()) {
                byte[] key = header.key().getBytes(StandardCharsets.UTF_8);
                ByteBuffer value = header.value() == null ? null : ByteBuffer.wrap(header.value());
                headers.add(hex(ByteBuffer.wrap(key)) + ":" + hex(value));
            }
            String key = hex(record.key());
            String value = hex(record.value());
            String numbers = record.offset() + "/" + record.timestamp();
            records.add(numbers + "/" + key + "/" + value + "/" + String.join(";", headers));
        }
        return String.join(",", records);
    }

    private static byte[] bytes(String hex) {
        byte[] bytes = new byte[hex.length() / 2];
        for (int index = 0; index < bytes.length; index++) {
            bytes[index] = (byte) Integer.parseInt(hex.substring(2 * index, 2 * index + 2), 16);
        }
        return bytes;
    }

    private static String hex(ByteBuffer buffer) {
        if (buffer == null) {
            return "-";
        }
        StringBuilder text = new StringBuilder();
        for (ByteBuffer rest = buffer.duplicate(); rest.hasRemaining();) {
            text.append(String.format("%02x", rest.get()));
        }
        return text.toString();
    }
}
