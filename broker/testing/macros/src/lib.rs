//! The attribute that gives a test its broker.
//!
//! Invariants: what the test's author wrote is compiled as it stands, in a function of the same
//! name, so that errors point at it.
//!
//! Absent on purpose: options. A test with other wishes builds its broker itself.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn};

/// Makes an async function a test on a current-thread runtime.
///
/// ```text
/// #[bateau_testing::test]
/// async fn ships_paid_orders(broker: TestBroker) -> Result<(), Error> { … }
/// ```
///
/// With one argument it is given a fresh broker in memory, which stops at the end of the test;
/// without, it runs alone. When it panics or returns an error, the last 20 requests that its
/// brokers saw are printed, and the seed that repeats the run.
#[proc_macro_attribute]
pub fn test(
    options: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    expand(&options.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(options: &TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !options.is_empty() {
        return Err(Error::new(options.span(), "this attribute takes no options"));
    }
    let mut inner: ItemFn = syn::parse2(item)?;
    if inner.sig.asyncness.is_none() {
        return Err(Error::new(inner.sig.fn_token.span(), "a test with a broker is an async fn"));
    }
    let run = match inner.sig.inputs.len() {
        0 => quote!(run),
        1 if matches!(inner.sig.inputs.first(), Some(FnArg::Typed(_))) => quote!(run_with_broker),
        _ => {
            let message = "a test takes no argument, or one broker: TestBroker";
            return Err(Error::new(inner.sig.inputs.span(), message));
        }
    };
    let (name, output) = (inner.sig.ident.clone(), inner.sig.output.clone());
    // `#[should_panic]` and `#[cfg]` are for the outer function, and so is everything else.
    let attributes = std::mem::take(&mut inner.attrs);
    Ok(quote! {
        #(#attributes)*
        #[::core::prelude::v1::test]
        fn #name() #output {
            #inner
            ::bateau_testing::private::#run(#name)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::expand;
    use proc_macro2::TokenStream;
    use quote::quote;

    fn expanded(item: TokenStream) -> Result<String, String> {
        let expanded = expand(&TokenStream::new(), item);
        expanded.map(|tokens| tokens.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_test_is_given_a_broker_if_it_asks_for_one() {
        let with = expanded(quote!(
            async fn ships(broker: TestBroker) {}
        ))
        .expect("it is a test");
        assert!(with.contains("run_with_broker (ships)"), "{with}");
        let without = expanded(quote!(
            async fn ships() {}
        ))
        .expect("it is a test");
        assert!(without.contains("private :: run (ships)"), "{without}");
    }

    #[test]
    fn what_cannot_be_a_test_is_refused_with_a_reason() {
        let refused = expanded(quote!(
            fn ships(broker: TestBroker) {}
        ))
        .expect_err("not async");
        assert!(refused.contains("async"), "{refused}");
        let refused = expanded(quote!(
            async fn ships(one: TestBroker, two: TestBroker) {}
        ));
        assert!(refused.expect_err("two brokers").contains("one broker"));
        let options = expand(
            &quote!(nodes = 3),
            quote!(
                async fn ships() {}
            ),
        );
        assert!(options.is_err(), "options would have no effect");
    }
}
