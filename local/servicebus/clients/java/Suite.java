import com.azure.core.amqp.AmqpRetryOptions;
import com.azure.core.amqp.AmqpTransportType;
import com.azure.core.exception.ResourceNotFoundException;
import com.azure.core.util.BinaryData;
import com.azure.data.tables.TableClient;
import com.azure.data.tables.TableServiceClient;
import com.azure.data.tables.TableServiceClientBuilder;
import com.azure.data.tables.models.ListEntitiesOptions;
import com.azure.data.tables.models.TableEntity;
import com.azure.data.tables.models.TableServiceException;
import com.azure.data.tables.models.TableTransactionAction;
import com.azure.data.tables.models.TableTransactionActionType;
import com.azure.data.tables.models.TableTransactionFailedException;
import com.azure.messaging.servicebus.ServiceBusClientBuilder;
import com.azure.messaging.servicebus.ServiceBusException;
import com.azure.messaging.servicebus.ServiceBusFailureReason;
import com.azure.messaging.servicebus.ServiceBusMessage;
import com.azure.messaging.servicebus.ServiceBusReceivedMessage;
import com.azure.messaging.servicebus.ServiceBusReceiverClient;
import com.azure.messaging.servicebus.ServiceBusSenderClient;
import com.azure.messaging.servicebus.administration.ServiceBusAdministrationClient;
import com.azure.messaging.servicebus.administration.ServiceBusAdministrationClientBuilder;
import com.azure.messaging.servicebus.administration.models.CreateQueueOptions;
import com.azure.messaging.servicebus.administration.models.QueueProperties;
import com.azure.messaging.servicebus.models.DeadLetterOptions;
import com.azure.messaging.servicebus.models.ServiceBusReceiveMode;
import com.azure.messaging.servicebus.models.SubQueue;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * Judges the local Service Bus and tables with the SDKs of Java. The environment names the servers; see suite.py.
 * The trust store of the machine that runs it has the certificate: -Djavax.net.ssl.trustStore.
 */
public class Suite {
    static final String BUS = System.getenv("BUS_TLS"), TABLES = System.getenv("TABLES_TLS");
    static final String ENDPOINT = BUS.replaceFirst(".*sb://([^;/]*).*", "https://$1");
    static final AmqpRetryOptions RETRIES =
        new AmqpRetryOptions().setMaxRetries(2).setDelay(Duration.ofMillis(200)).setTryTimeout(Duration.ofSeconds(5));
    static int passed, failed;

    interface Test {
        void run() throws Exception;
    }

    static final ExecutorService THREADS = Executors.newCachedThreadPool(run -> {
        Thread thread = new Thread(run);
        thread.setDaemon(true);
        return thread;
    });

    static void check(String name, Test test) {
        try {
            Callable<Void> call = () -> {
                test.run();
                return null;
            };
            THREADS.submit(call).get(40, TimeUnit.SECONDS);
            passed++;
        } catch (Exception e) {
            failed++;
            System.out.println("FAILED " + name);
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                System.out.println("  " + cause);
                for (StackTraceElement at : cause.getStackTrace()) {
                    if (at.getClassName().startsWith("Suite")) {
                        System.out.println("    at line " + at.getLineNumber());
                    }
                }
            }
        }
    }

    static void same(Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    static <E extends Exception> E fails(Class<E> kind, Test test) throws Exception {
        try {
            test.run();
        } catch (Exception e) {
            if (kind.isInstance(e)) {
                return kind.cast(e);
            }
            throw e;
        }
        throw new AssertionError("it succeeds, and must fail with " + kind.getSimpleName());
    }

    static ServiceBusClientBuilder client(AmqpTransportType transport) {
        return new ServiceBusClientBuilder().connectionString(BUS).customEndpointAddress(ENDPOINT).transportType(transport).retryOptions(RETRIES);
    }

    static ServiceBusClientBuilder client() {
        return client(AmqpTransportType.AMQP);
    }

    static List<ServiceBusReceivedMessage> take(ServiceBusReceiverClient receiver, int n) {
        List<ServiceBusReceivedMessage> out = new ArrayList<>();
        while (out.size() < n) {
            int before = out.size();
            receiver.receiveMessages(n - before, Duration.ofSeconds(5)).forEach(out::add);
            if (out.size() == before) {
                throw new AssertionError(before + " messages came, not " + n);
            }
        }
        return out;
    }

    static void roundTrip(AmqpTransportType transport) {
        try (ServiceBusSenderClient sender = client(transport).sender().queueName("jobs").buildClient();
            ServiceBusReceiverClient receiver = client(transport).receiver().queueName("jobs").disableAutoComplete().buildClient()) {
            List<ServiceBusMessage> all = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                all.add(new ServiceBusMessage(BinaryData.fromBytes(new byte[100])).setMessageId("" + i).setCorrelationId("c"));
            }
            sender.sendMessages(all);
            int i = 0;
            for (ServiceBusReceivedMessage m : take(receiver, 20)) {
                same(m.getMessageId(), "" + i++);
                receiver.complete(m);
            }
            same(receiver.peekMessage(), null);
        }
    }

    static void sent(String queue) {
        try (ServiceBusSenderClient sender = client().sender().queueName(queue).buildClient();
            ServiceBusReceiverClient receiver = client().receiver().queueName(queue).receiveMode(ServiceBusReceiveMode.RECEIVE_AND_DELETE).buildClient()) {
            sender.sendMessage(new ServiceBusMessage("x"));
            take(receiver, 1);
        }
    }

    /** Types that a sender may give a property, among them char, which the SDK of Go does not read. */
    static void properties() {
        try (ServiceBusSenderClient sender = client().sender().queueName("jobs").buildClient();
            ServiceBusReceiverClient receiver = client().receiver().queueName("jobs").disableAutoComplete().buildClient()) {
            List<Object> values = List.of(true, (byte) 1, (short) 2, 3, 4L, 1.5f, 2.5, 'c', "text", new UUID(1, 2));
            ServiceBusMessage message = new ServiceBusMessage("x");
            for (int i = 0; i < values.size(); i++) {
                message.getApplicationProperties().put("p" + i, values.get(i));
            }
            sender.sendMessage(message);
            ServiceBusReceivedMessage got = take(receiver, 1).get(0);
            for (int i = 0; i < values.size(); i++) {
                same(got.getApplicationProperties().get("p" + i), values.get(i));
            }
            receiver.complete(got);
        }
    }

    static void refusals() throws Exception {
        try (ServiceBusSenderClient sender = client().sender().queueName("jobs").buildClient()) {
            ServiceBusException e = fails(ServiceBusException.class, () -> sender.sendMessage(new ServiceBusMessage(BinaryData.fromBytes(new byte[300_000]))));
            same(e.getReason(), ServiceBusFailureReason.MESSAGE_SIZE_EXCEEDED);
        }
        try (ServiceBusSenderClient sender = client().sender().queueName("nothing").buildClient()) {
            ServiceBusException e = fails(ServiceBusException.class, () -> sender.sendMessage(new ServiceBusMessage("x")));
            same(e.getReason(), ServiceBusFailureReason.MESSAGING_ENTITY_NOT_FOUND);
        }
        String wrong = BUS.replaceFirst("SharedAccessKey=[^;]*", "SharedAccessKey=d3Jvbmc=");
        try (ServiceBusSenderClient sender = new ServiceBusClientBuilder().connectionString(wrong).customEndpointAddress(ENDPOINT)
            .retryOptions(RETRIES).sender().queueName("jobs").buildClient()) {
            ServiceBusException e = fails(ServiceBusException.class, () -> sender.sendMessage(new ServiceBusMessage("x")));
            same(e.getReason(), ServiceBusFailureReason.UNAUTHORIZED);
        }
    }

    static void sessions() {
        try (ServiceBusSenderClient sender = client().sender().queueName("sessions").buildClient();
            var sessions = client().sessionReceiver().queueName("sessions").disableAutoComplete().buildClient()) {
            sender.sendMessage(new ServiceBusMessage("x").setSessionId("java"));
            try (ServiceBusReceiverClient receiver = sessions.acceptSession("java")) {
                receiver.setSessionState("state".getBytes());
                same(new String(receiver.getSessionState()), "state");
                receiver.renewSessionLock();
                receiver.complete(take(receiver, 1).get(0));
            }
        }
    }

    static void deadLetters() {
        try (ServiceBusSenderClient sender = client().sender().queueName("jobs").buildClient();
            ServiceBusReceiverClient receiver = client().receiver().queueName("jobs").disableAutoComplete().buildClient();
            ServiceBusReceiverClient dead = client().receiver().queueName("jobs").subQueue(SubQueue.DEAD_LETTER_QUEUE).disableAutoComplete().buildClient()) {
            sender.sendMessage(new ServiceBusMessage("x").setReplyTo("r"));
            receiver.deadLetter(take(receiver, 1).get(0), new DeadLetterOptions().setDeadLetterReason("why").setDeadLetterErrorDescription("because"));
            ServiceBusReceivedMessage m = take(dead, 1).get(0);
            same(m.getDeadLetterReason(), "why");
            same(m.getReplyTo(), "r");
            dead.complete(m);
        }
    }

    static void later() {
        try (ServiceBusSenderClient sender = client().sender().queueName("jobs").buildClient();
            ServiceBusReceiverClient receiver = client().receiver().queueName("jobs").disableAutoComplete().buildClient()) {
            long number = sender.scheduleMessage(new ServiceBusMessage("x"), OffsetDateTime.now().plusHours(1));
            sender.cancelScheduledMessage(number);
            sender.sendMessage(new ServiceBusMessage("deferred"));
            ServiceBusReceivedMessage m = take(receiver, 1).get(0);
            receiver.renewMessageLock(m);
            receiver.defer(m);
            receiver.complete(receiver.receiveDeferredMessage(m.getSequenceNumber()));
            same(receiver.peekMessage(), null);
        }
    }

    static void administration() throws Exception {
        ServiceBusAdministrationClient admin = new ServiceBusAdministrationClientBuilder().connectionString(BUS)
            .addPolicy((context, next) -> { // the client forgets the port of the connection string
                context.getHttpRequest().setUrl(context.getHttpRequest().getUrl().toString().replaceFirst("^https://localhost(:\\d+)?", ENDPOINT));
                return next.process();
            }).buildClient();
        QueueProperties made = admin.createQueue("java-made", new CreateQueueOptions().setMaxDeliveryCount(3));
        same(made.getMaxDeliveryCount(), 3);
        try (ServiceBusSenderClient sender = client().sender().queueName("java-made").buildClient()) {
            sender.sendMessage(new ServiceBusMessage("x"));
        }
        same(admin.getQueueRuntimeProperties("java-made").getActiveMessageCount(), 1);
        same(admin.getQueueRuntimeProperties("java-made").getDeadLetterMessageCount(), 0);
        same(admin.updateQueue(made.setMaxDeliveryCount(4)).getMaxDeliveryCount(), 4);
        same(admin.listQueues().stream().anyMatch(q -> q.getName().equals("java-made")), true);
        same(admin.getNamespaceProperties().getMessagingSku().toString(), "Standard");
        admin.deleteQueue("java-made");
        same(admin.getQueueExists("java-made"), false);
        fails(ResourceNotFoundException.class, () -> admin.getQueue("java-made"));
    }

    static void tables() throws Exception {
        TableServiceClient service = new TableServiceClientBuilder().connectionString(TABLES).buildClient();
        TableClient table = service.createTable("java");
        List<TableTransactionAction> all = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            TableEntity e = new TableEntity("p", String.format("%03d", i)).addProperty("N", i).addProperty("Long", 1L << 40)
                .addProperty("At", OffsetDateTime.parse("2026-01-02T03:04:05Z")).addProperty("Id", new UUID(1, 2)).addProperty("Bytes", new byte[] {1, 2});
            all.add(new TableTransactionAction(TableTransactionActionType.CREATE, e));
        }
        table.submitTransaction(all);
        same(table.listEntities(new ListEntitiesOptions().setFilter("N ge 10 and N lt 35").setTop(10), null, null).stream().count(), 25L);
        TableEntity one = table.getEntity("p", "007");
        same(one.getProperty("Long"), 1L << 40);
        same(one.getProperty("Id"), new UUID(1, 2));
        same(one.getProperty("At"), OffsetDateTime.parse("2026-01-02T03:04:05Z"));
        one.addProperty("N", 70);
        table.updateEntityWithResponse(one, com.azure.data.tables.models.TableEntityUpdateMode.MERGE, true, null, null);
        TableServiceException stale = fails(TableServiceException.class,
            () -> table.updateEntityWithResponse(one, com.azure.data.tables.models.TableEntityUpdateMode.MERGE, true, null, null));
        same(stale.getValue().getErrorCode().toString(), "UpdateConditionNotSatisfied");
        TableServiceException twice = fails(TableServiceException.class, () -> table.createEntity(new TableEntity("p", "007")));
        same(twice.getValue().getErrorCode().toString(), "EntityAlreadyExists");
        TableTransactionFailedException part = fails(TableTransactionFailedException.class, () -> table.submitTransaction(List.of(
            new TableTransactionAction(TableTransactionActionType.CREATE, new TableEntity("p", "new")),
            new TableTransactionAction(TableTransactionActionType.CREATE, new TableEntity("p", "007")))));
        same(part.getFailedTransactionActionIndex(), 1);
        TableServiceException none = fails(TableServiceException.class, () -> table.getEntity("p", "new"));
        same(none.getResponse().getStatusCode(), 404);
        table.deleteEntity("p", "007");
        table.deleteTable();
    }

    public static void main(String[] args) {
        check("TLS", () -> roundTrip(AmqpTransportType.AMQP));
        check("WebSocket over TLS", () -> roundTrip(AmqpTransportType.AMQP_WEB_SOCKETS));
        check("properties", Suite::properties);
        check("throttling", () -> sent("busy"));
        check("a lost link", () -> sent("cut"));
        check("a lost connection", () -> sent("gone"));
        check("an answer that is lost", () -> sent("lost"));
        check("refusals", Suite::refusals);
        check("sessions", Suite::sessions);
        check("dead letters", Suite::deadLetters);
        check("scheduled and deferred messages", Suite::later);
        check("administration", Suite::administration);
        check("tables", Suite::tables);
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
