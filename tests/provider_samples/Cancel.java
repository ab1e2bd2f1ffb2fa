import java.net.HttpURLConnection;
import java.net.URL;

/** Cancels as the provider's page does with Java. URL, key and id: the three arguments. */
public class Cancel {
    public static void main(String[] args) throws Exception {
        URL url = new URL(args[0] + "/message-cancel?apiKey=" + args[1] + "&messageId=" + args[2]);
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setRequestMethod("GET");
        connection.setConnectTimeout(10000);
        connection.setReadTimeout(10000);
        boolean fine = connection.getResponseCode() < 300;
        byte[] body = (fine ? connection.getInputStream() : connection.getErrorStream()).readAllBytes();
        System.out.write(body);
        System.out.flush();
        System.exit(new String(body, "UTF-8").startsWith("{\"success\": true,") ? 0 : 1);
    }
}
