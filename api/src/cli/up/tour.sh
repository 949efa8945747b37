. .stepwise/demo.env

# put two of something into the cart
curl -sS "$SHOP/v1/customers/$CUSTOMER/cart/items" -H "Authorization: Bearer $TOKEN" --json "{\"productId\":\"$PRODUCT\",\"quantity\":2}"

# order it and wait for the outcome; the same key again answers the same
ORDER=$(curl -sS "$SHOP/v1/orders" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: tour-$(date +%s)" -H "Prefer: wait=10" --json "{\"customerId\":\"$CUSTOMER\",\"shippingAddressId\":\"$ADDRESS\",\"paymentMethodId\":\"$METHOD\"}" | grep -o '"id":"[^"]*"' | head -n 1 | cut -d '"' -f 4)

# the order, and its saga as operators see it
curl -sS "$SHOP/v1/orders/$ORDER" -H "Authorization: Bearer $TOKEN"
curl -sS "$SHOP/v1/admin/sagas?subject=$ORDER" -H "Authorization: Bearer $OPERATOR"

# what partners are told
curl -sSN --max-time 5 "$SHOP/v1/events/stream" -H "Authorization: Bearer $SERVICE" | grep -m 1 "$ORDER"

# cancel it: the authorization is voided, the stock goes back
curl -sS "$SHOP/v1/orders/$ORDER/cancel" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: tour-cancel-$ORDER" -H "Prefer: wait=10" --json '{"reason":"changed my mind"}'
