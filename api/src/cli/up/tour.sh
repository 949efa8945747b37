. .stepwise/demo.env

# put two of something into the cart
curl -sS -w '\n' "$SHOP/v1/customers/$CUSTOMER/cart/items" -H "Authorization: Bearer $TOKEN" --json "{\"productId\":\"$PRODUCT\",\"quantity\":2}"

# order it, under a key of your own: accepted
KEY="tour-$(date +%s)"
BODY="{\"customerId\":\"$CUSTOMER\",\"shippingAddressId\":\"$ADDRESS\",\"paymentMethodId\":\"$METHOD\"}"
ORDER=$(curl -sS "$SHOP/v1/orders" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY" --json "$BODY" | sed 's/.*"subject":"\([^"]*\)".*/\1/')

# the same key again is the same order; this time wait for the outcome
curl -sS -w '\n' "$SHOP/v1/orders" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY" -H "Prefer: wait=10" --json "$BODY"

# the order, and its saga as operators see it
curl -sS -w '\n' "$SHOP/v1/orders/$ORDER" -H "Authorization: Bearer $TOKEN"
curl -sS -w '\n' "$SHOP/v1/admin/sagas?subject=$ORDER" -H "Authorization: Bearer $OPERATOR"

# what partners are told
curl -sN --max-time 5 "$SHOP/v1/events/stream" -H "Authorization: Bearer $SERVICE" | grep -m 1 "$ORDER"

# cancel it: the authorization is voided, the stock goes back
curl -sS -w '\n' "$SHOP/v1/orders/$ORDER/cancel" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY" -H "Prefer: wait=10" --json '{"reason":"changed my mind"}'

# a second order: an admin confirms and ships it, which takes the money and the stock, and notes its delivery
curl -sS -w '\n' "$SHOP/v1/customers/$CUSTOMER/cart/items" -H "Authorization: Bearer $TOKEN" --json "{\"productId\":\"$PRODUCT\",\"quantity\":1}"
SECOND=$(curl -sS "$SHOP/v1/orders" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY-2" -H "Prefer: wait=10" --json "$BODY" | sed 's/.*,"id":"\([^"]*\)","lineItems".*/\1/')
curl -sS -w '\n' -X POST "$SHOP/v1/orders/$SECOND/confirm" -H "Authorization: Bearer $ADMIN"
curl -sS -w '\n' "$SHOP/v1/orders/$SECOND/ship" -H "Authorization: Bearer $ADMIN" -H "Idempotency-Key: $KEY-3" -H "Prefer: wait=10" --json '{"trackingNumber":"1Z999","carrier":"UPS"}'
curl -sS -w '\n' -X POST "$SHOP/v1/orders/$SECOND/deliver" -H "Authorization: Bearer $ADMIN"

# give back a part of what was taken for it
curl -sS -w '\n' "$SHOP/v1/payments/refunds" -H "Authorization: Bearer $ADMIN" -H "Idempotency-Key: $KEY-4" -H "Prefer: wait=10" --json "{\"orderId\":\"$SECOND\",\"amount\":{\"amount\":\"1.00\",\"currency\":\"USD\"}}"

# an order that is paid at PayPal: ask for an approval of the second order's total, approve it as the customer does at PayPal's page, and order with it
curl -sS -w '\n' "$SHOP/v1/customers/$CUSTOMER/cart/items" -H "Authorization: Bearer $TOKEN" --json "{\"productId\":\"$PRODUCT\",\"quantity\":1}"
TOTAL=$(curl -sS "$SHOP/v1/orders/$SECOND" -H "Authorization: Bearer $TOKEN" | sed 's/.*"totalAmount":\({[^}]*}\).*/\1/')
PAYPAL=$(curl -sS "$SHOP/v1/payments/paypal" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY-5" -H "Prefer: wait=10" --json "{\"amount\":$TOTAL,\"returnUrl\":\"$SHOP/thanks\",\"cancelUrl\":\"$SHOP/cart\"}")
curl -sS -d decision=approve "$(echo "$PAYPAL" | sed 's/.*"url":"\([^"]*\)".*/\1/')"
curl -sN "$SHOP/v1/operations/$(echo "$PAYPAL" | sed 's/.*"id":"\([^"]*\)","kind".*/\1/')/events" -H "Authorization: Bearer $TOKEN" | grep -m 1 -o '"status":"succeeded"'
APPROVED=$(echo "$PAYPAL" | sed 's/.*"subject":"\([^"]*\)".*/\1/')
curl -sS -w '\n' "$SHOP/v1/orders" -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $KEY-6" -H "Prefer: wait=10" --json "{\"customerId\":\"$CUSTOMER\",\"shippingAddressId\":\"$ADDRESS\",\"paymentMethodId\":\"$APPROVED\"}"
