//! Every saga of the shop is on trial: one test unwinds it from every step, another crashes it at every point.

use stepwise_engine::Saga as _;
use stepwise_workflows::sagas::{
    SAGAS, account_mail::AccountMail, authorize_payment::AuthorizePayment,
    cancel_order::CancelOrder, cart_expiry::CartExpiry, gdpr_erasure::GdprErasure,
    keep_payment_method::KeepPaymentMethod, paypal_approval::PayPalApproval,
    place_order::PlaceOrder, reconcile_payments::ReconcilePayments, refund_payment::RefundPayment,
    register_customer::RegisterCustomer, remove_product_from_carts::RemoveProductFromCarts,
    reservation_expiry::ReservationExpiry, ship_order::ShipOrder, stock_alert::StockAlert,
    verify_email::VerifyEmail,
};

use crate::{approvals, carts, crashes, erasures, mails, payments, stock, unwinding, wallets};

/// A saga with its two tests.
type Tried = (&'static str, [fn(); 2]);

/// All sagas.
const TRIED: [Tried; 16] = [
    (
        PlaceOrder::NAME,
        [
            unwinding::a_placement_unwinds_from_every_step,
            crashes::a_placement_survives_a_crash_at_every_point,
        ],
    ),
    (
        ShipOrder::NAME,
        [
            unwinding::a_shipment_is_called_off_until_its_money_is_taken,
            crashes::a_shipment_survives_a_crash_at_every_point,
        ],
    ),
    (
        CancelOrder::NAME,
        [
            unwinding::a_cancellation_has_no_way_back_and_may_be_repeated,
            crashes::a_cancellation_survives_a_crash_at_every_point,
        ],
    ),
    (
        RefundPayment::NAME,
        [
            unwinding::a_refund_is_called_off_until_the_money_is_back,
            crashes::a_refund_survives_a_crash_at_every_point,
        ],
    ),
    (
        PayPalApproval::NAME,
        [
            approvals::an_approval_unwinds_from_every_step,
            approvals::an_approval_survives_a_crash_at_every_point,
        ],
    ),
    (
        AuthorizePayment::NAME,
        [
            payments::an_authorization_unwinds_from_every_step,
            payments::an_authorization_survives_a_crash_at_every_point,
        ],
    ),
    (
        ReconcilePayments::NAME,
        [
            payments::a_reconciliation_has_nothing_to_take_back_and_may_be_repeated,
            payments::a_reconciliation_survives_a_crash_at_every_point,
        ],
    ),
    (
        RegisterCustomer::NAME,
        [
            mails::proving_an_address_has_no_way_back_and_may_be_repeated,
            mails::proving_an_address_survives_a_crash_at_every_point,
        ],
    ),
    (
        AccountMail::NAME,
        [
            mails::a_reset_mail_has_no_way_back_and_may_be_repeated,
            mails::a_reset_mail_survives_a_crash_at_every_point,
        ],
    ),
    (
        VerifyEmail::NAME,
        [
            mails::a_verification_mail_has_no_way_back_and_may_be_repeated,
            mails::a_verification_mail_survives_a_crash_at_every_point,
        ],
    ),
    (
        RemoveProductFromCarts::NAME,
        [
            carts::a_removal_from_carts_has_no_way_back_and_may_be_repeated,
            carts::a_removal_from_carts_survives_a_crash_at_every_point,
        ],
    ),
    (
        StockAlert::NAME,
        [
            stock::an_alert_about_stock_has_no_way_back_and_may_be_repeated,
            stock::an_alert_about_stock_survives_a_crash_at_every_point,
        ],
    ),
    (
        CartExpiry::NAME,
        [
            carts::a_cart_whose_expiry_is_called_off_is_not_watched_any_more,
            carts::a_cart_expiry_survives_a_crash_at_every_point,
        ],
    ),
    (
        ReservationExpiry::NAME,
        [
            stock::a_reservation_expiry_has_nothing_to_take_back_and_may_be_repeated,
            stock::a_reservation_expiry_survives_a_crash_at_every_point,
        ],
    ),
    (
        GdprErasure::NAME,
        [
            erasures::an_erasure_unwinds_from_every_step_before_the_key_is_destroyed,
            erasures::an_erasure_survives_a_crash_at_every_point,
        ],
    ),
    (
        KeepPaymentMethod::NAME,
        [
            wallets::an_attachment_is_called_off_until_it_is_noted,
            wallets::an_attachment_survives_a_crash_at_every_point,
        ],
    ),
];

#[test]
fn every_saga_in_the_list_of_the_shop_is_on_trial() {
    let listed: Vec<_> = SAGAS.iter().map(|saga| saga.name()).collect();
    assert_eq!(TRIED.map(|(saga, _)| saga), listed[..]);
}
